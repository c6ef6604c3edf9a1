"""The row of a finding shows a figure that says what the finding says."""

import pytest

from studies.claims.findings import finding_of
from studies.claims.verdict import Outcome, Verdict, state
from studies.report.sections.findings import findings_table

Row = tuple[Verdict, float | None]


@pytest.mark.parametrize("records", ["", "400 records"], ids=["replicates", "one replicate"])
@pytest.mark.parametrize(
    ("membership", "memorization", "shown"),
    [
        (("confirmed", 0.81), ("refuted", 0.003), 0.003),
        (("confirmed", 0.81), ("undecided", 0.011), 0.011),
        (("confirmed", 0.81), ("confirmed", 0.02), 0.81),
        (("undecided", None), ("confirmed", 0.02), 0.02),
    ],
)
def test_the_figure_is_one_that_decides(
    membership: Row, memorization: Row, shown: float, records: str
) -> None:
    replicates = 1 if records else 5
    statements = [
        state(Outcome(verdict, effect, "a figure"), name, replicates, records=records)
        for name, (verdict, effect) in {"membership": membership, "text": memorization}.items()
    ]
    [row] = findings_table([finding_of("C1", statements)]).rows
    assert float(row[3].key or "nan") == shown
