"""Whose records a student exposes, and whose its teacher alone: names out of shadow worlds."""

from collections.abc import Iterator, Sequence

import pandas as pd
import pyarrow as pa

from audits.membership.single_records import NAMED, POOL, SEPARATION, SINGLE_RECORDS
from audits.rows import Audit
from studies.compare.comparisons import Row, run_identities
from studies.compare.memorization import record_values
from studies.plan.cells import Cell

BY_BOTH, BY_STUDENT, BY_TEACHER = "named_by_both", "named_by_student_only", "named_by_teacher_only"
"""Metrics: records that a false-discovery rate of 5% names of the student, of its teacher, or both.
A record that is not named may be exposed all the same."""
_NAMED = f"{SEPARATION}_{NAMED}"
_SIDES = ("private", "held_out")


def named_by(memorization: pd.DataFrame) -> dict[str, dict[str, pd.Series]]:
    """Returns whether each record of the pool is named: params -> run -> bool by record.

    Args:
        memorization: The table of records.
    """
    return {
        params: {
            run: pd.concat([own[side] for side in _SIDES if side in own]) == 1.0
            for run, own in runs.items()
        }
        for params, runs in record_values(memorization, _NAMED).items()
    }


def teacher_of(student: Cell, cells: Sequence[Cell]) -> Cell | None:
    """Returns the one teacher that a student learnt from; None of an ensemble's."""
    needed = {one for ids in student.needs.values() for one in ids}
    found = [one for one in cells if one.role == "teacher" and one.id in needed]
    return found[0] if len(found) == 1 else None


def single_record_rows(
    done: Sequence[Cell], results: pa.Table, memorization: pd.DataFrame
) -> Iterator[Row]:
    """Yields of each student how many records it and its teacher expose, or one of them alone.

    Args:
        done: The finished cells.
        results: Their results.
        memorization: Their table of records.
    """
    identities = run_identities(results)
    for params, named in named_by(memorization).items():
        for cell in done:
            teacher = teacher_of(cell, done) if cell.role == "student" else None
            if teacher is None or not {cell.alias, teacher.alias} <= named.keys():
                continue
            both = pd.concat([named[cell.alias], named[teacher.alias]], axis=1, join="inner")
            by_student, by_teacher = both.iloc[:, 0], both.iloc[:, 1]
            counts = {
                BY_BOTH: by_student & by_teacher,
                BY_STUDENT: by_student & ~by_teacher,
                BY_TEACHER: ~by_student & by_teacher,
            }
            for metric, which in counts.items():
                yield {
                    **identities[cell.alias],
                    "audit": Audit.membership,
                    "population": POOL,
                    "name": SINGLE_RECORDS,
                    "metric": metric,
                    "params": params,
                    "value": float(which.sum()),
                    "n_members": len(both),
                    "run_b": teacher.alias,
                }
