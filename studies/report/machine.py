"""What a machine reads of a study: audit.json beside the page, and the release gate."""

import json
from collections.abc import Sequence

import pyarrow as pa

from audits.answer import Answer
from audits.answer.gate import Condition, failures
from audits.answer.judging import Row
from audits.answer.machine import FILE_NAME, audit_json
from audits.results import RESULTS
from common.own_files import read_json
from common.roles import Role
from studies.report.study_data import StudyData
from studies.run.cell_state import CellFiles


def study_json(data: StudyData, answer: Answer) -> str:
    """Returns the content of a study's audit.json.

    What was tested is what each run wrote of itself when it ended.

    Args:
        data: The study.
        answer: What a reader of it is told first.
    """
    tested: list[dict[str, object]] = []
    for cell in data.cells:
        path = CellFiles(cell).folder / FILE_NAME
        if path.is_file():
            told = read_json(path, f"delete {path.parent}, and the cell runs anew")
            tested += told.get("tested", [])
    content = audit_json(answer, _rows(data), tested)
    return json.dumps(content, indent=1, allow_nan=False)


def study_failures(data: StudyData, conditions: Sequence[Condition]) -> list[str]:
    """Returns a line for every figure that does not pass a release gate.

    A line without a model is about every student, each replicate of it; of a study without
    students, about every teacher.

    Args:
        data: The study.
        conditions: The gate.
    """
    labels = {cell.alias: data.kinds[cell.alias] for cell in data.cells}
    of_role = {
        role: {cell.alias for cell in data.cells if cell.role == role}
        for role in (Role.student, Role.teacher)
    }
    shipped = of_role[Role.student] or of_role[Role.teacher]
    return failures(conditions, _rows(data), labels, shipped)


def _rows(data: StudyData) -> list[Row]:
    """Returns the rows of each run's last step, with None for what is not there."""
    table = pa.Table.from_pandas(data.results[RESULTS.names], preserve_index=False)
    rows: list[Row] = table.cast(RESULTS).to_pylist()
    return rows
