"""What an audit says beside its figures."""

from audits.membership.worst_task import WORST_TASK
from audits.results import table_from_rows
from audits.rows import ResultRow
from kd_privacy.result import Audit


def test_the_worst_task_is_named_with_its_figure() -> None:
    identity = {"run": "a", "role": "external", "step": 0, "audit": "membership"}
    known = {"population": "external", "task": "legal", "name": "min_k", "metric": WORST_TASK}
    row = ResultRow(**known, params={"k": 0.2}, value=0.8125, lower=0.7, upper=0.9)
    tables = {"results": table_from_rows("results", [{**identity, **row}])}
    assert Audit(tables, {}, ["first"], {}, {}).notes == [
        "first",
        "worst task, named by one half of the records: min_k (k=0.2) legal 0.812 [0.700, 0.900]",
    ]
