"""The small studies of the studies tests."""

from tests.studies.conftest import (
    finished,
    finished_runs,
    plan_of,
    planted,
    project,
    tables,
    without_pictures,
)

__all__ = [
    "finished",
    "finished_runs",
    "plan_of",
    "planted",
    "project",
    "tables",
    "without_pictures",
]
