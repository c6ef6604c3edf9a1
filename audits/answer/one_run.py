"""The answer on a run, from the tables in its folder."""

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from audits.answer.answer import Answer, ModelAnswer
from audits.answer.judging import Row
from audits.answer.one_model import model_answer
from audits.answer.sentence import audits_of, single_answer
from audits.rows import Audit

_ANSWERS = (Audit.membership, Audit.memorization, Audit.blocks, Audit.utility)


def run_answer(folder: Path) -> Answer | None:
    """Returns what is said of the last weights of a run that were audited; None where none were.

    Args:
        folder: The run's, with its merged tables.
    """
    rows = last_rows(folder)
    if not rows:
        return None
    return single_answer(_told(rows), audits_of(rows))


def run_model(folder: Path) -> ModelAnswer | None:
    """Returns what the audits of a run's last weights say; None where none ran."""
    rows = last_rows(folder)
    return _told(rows) if rows else None


def _told(rows: list[Row]) -> ModelAnswer:
    run, role = str(rows[0]["run"]), str(rows[0]["role"])
    return model_answer(rows, label=role.replace("_", " ").capitalize(), run=run, role=role)


def last_rows(folder: Path) -> list[Row]:
    """Returns the results of the last weights of a run that were audited; none where none were."""
    # No threads: a runner of cells forks.
    table = pq.ParquetFile(folder / "results.parquet").read(use_threads=False)
    steps = {
        int(step)
        for step, audit in zip(table["step"].to_pylist(), table["audit"].to_pylist(), strict=True)
        if audit in _ANSWERS
    }
    if not steps:
        return []
    rows: list[Row] = table.filter(pc.field("step") == max(steps)).to_pylist()
    return rows
