"""The small studies of the studies tests."""

from tests.studies.conftest import finished, plan_of, planted, project, tables

__all__ = ["finished", "plan_of", "planted", "project", "tables"]
