"""What the rows say of two record sets, against counts by hand."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from audits.results import table_from_rows
from audits.scoring.blind_baseline import BlindOptions, BlindSide
from audits.scoring.shift_test import DEALT_BY_COINS, ShiftTest, coins_row, gravest_shift
from datamodules.synthetic import generate_records

QUICK = BlindOptions(repeats=1)
IDENTITY = {"run": "a", "role": "teacher", "step": 1, "audit": "membership"}


def shift_test(*, shared: int = 0, longer: bool = False, moved_tasks: int = 0) -> ShiftTest:
    """Two sides of 40 records, the first `shared` of them in clusters that both sides have."""
    records = generate_records(80, 4)
    members, nonmembers = records[:40], records[40:]
    if longer:
        members = [replace(one, response=f"{one.response} And so on." * 3) for one in members]
    members = [
        replace(one, task="moved") if i < moved_tasks else one for i, one in enumerate(members)
    ]
    theirs = np.arange(100, 140)
    ours = np.where(np.arange(40) < shared, theirs, np.arange(40))
    return ShiftTest.of(
        "private", BlindSide(members, ours), BlindSide(nonmembers, theirs), QUICK, 3
    )


def row(found: ShiftTest, name: str, metric: str) -> dict[str, object]:
    (one,) = [one for one in found.rows if (one["name"], one["metric"]) == (name, metric)]
    return dict(one)


def test_rows_fit_the_results_table_and_carry_the_verdict() -> None:
    found = shift_test()
    table = table_from_rows("results", [{**IDENTITY, **one} for one in found.rows])
    assert set(table.column("shifted").to_pylist()) == {found.verdict.shifted}
    assert set(table.column("skipped").to_pylist()) == {3}
    auroc = row(found, "blind", "auroc")
    assert (auroc["value"], auroc["p_value"]) == (found.verdict.auroc, found.verdict.p_value)
    assert row(found, "blind", "records_needed")["value"] == found.verdict.needed
    assert found.curves["membership/private/blind/auroc"] == found.verdict.auroc


def test_near_duplicates_are_counted_over_members() -> None:
    assert row(shift_test(), "balance", "near_duplicates")["value"] == 0.0
    found = row(shift_test(shared=10), "balance", "near_duplicates")
    assert found["value"] == 0.25
    assert 0.1 < float(str(found["lower"])) < 0.25 < float(str(found["upper"])) < 0.45


def test_a_difference_in_length_shows() -> None:
    records = generate_records(80, 4)
    lengths = [len(one.response) for one in records]
    even = row(shift_test(), "balance", "response_length_auroc")
    assert even["value"] == pytest.approx(roc_auc_score([1] * 40 + [0] * 40, lengths))
    apart = row(shift_test(longer=True), "balance", "response_length_auroc")
    assert float(str(apart["lower"])) > 0.5


def test_a_difference_in_tasks_shows() -> None:
    records = generate_records(80, 4)
    shares = [
        [sum(one.task == task for one in side) / 40 for task in {one.task for one in records}]
        for side in (records[:40], records[40:])
    ]
    even = row(shift_test(), "balance", "task_distance")
    expected = sum(abs(a - b) for a, b in zip(*shares, strict=True)) / 2
    assert even["value"] == pytest.approx(expected)
    assert float(str(even["p_value"])) > 0.05
    assert row(shift_test(moved_tasks=20), "balance", "task_distance")["p_value"] == 1 / 200


def test_the_message_comes_with_what_is_wrong() -> None:
    unknown = shift_test()
    assert unknown.verdict.shifted is None
    assert str(unknown.verdict.needed) in str(unknown.message)
    shifted = replace(unknown, verdict=replace(unknown.verdict, shifted=True))
    assert str(shifted.message).startswith("SHIFTED DATA: ")
    assert shifted.alarming
    assert replace(unknown, verdict=replace(unknown.verdict, shifted=False)).message is None


def test_the_luck_of_coins_is_told_and_alarms_nobody() -> None:
    unknown = replace(shift_test(), dealt_by_coins=True)
    assert unknown.message is None
    shifted = replace(unknown, verdict=replace(unknown.verdict, shifted=True))
    assert not shifted.alarming
    assert "SHIFTED" not in str(shifted.message)
    assert "fair coins dealt them" in str(shifted.message)


def test_who_dealt_the_sides_is_a_row_of_the_results() -> None:
    rows = [coins_row("private", True), coins_row("public", False)]
    table = table_from_rows("results", [{**IDENTITY, **one} for one in rows]).to_pylist()
    assert [(one["population"], one["metric"], one["value"]) for one in table] == [
        ("private", DEALT_BY_COINS, 1.0),
        ("public", DEALT_BY_COINS, 0.0),
    ]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], None),
        ([None], None),
        ([False], False),
        ([False, False], False),
        ([False, None], None),
        ([None, True, False], True),
    ],
)
def test_of_several_verdicts_the_gravest_counts(
    verdicts: list[bool | None], expected: bool | None
) -> None:
    assert gravest_shift(verdicts) is expected


def test_a_side_without_records_has_a_verdict_and_no_balance() -> None:
    nobody = BlindSide([], np.array([], dtype=np.int64))
    records = generate_records(20, 4)
    found = ShiftTest.of("private", nobody, BlindSide(records, np.arange(20)), QUICK)
    assert found.verdict.shifted is None
    assert [one["metric"] for one in found.rows] == ["auroc", "upper_bound", "records_needed"]
    assert [one["value"] for one in found.rows[:2]] == [None, None]
