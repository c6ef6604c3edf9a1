"""A study's splits are judged together where each has too few records of its own."""

import pytest

from studies.shift import shift_of_splits
from tests.studies.claims.tables import cell, row, study

MARGIN = '{"margin": 0.05}'
AUROCS = {7: 0.47, 8: 0.55, 9: 0.49, 10: 0.53, 11: 0.52}
ERROR = 0.038


def blind(run: str, value: float, **more: object) -> dict[str, object]:
    half = 1.959964 * ERROR
    shared = {"params": MARGIN, "lower": value - half, "upper": value + half}
    return row(run, "blind", "auroc", value, **shared, **more)


def of_replicates(aurocs: dict[int, float]) -> list[dict[str, object]]:
    students = [cell(role, "kd", one) for one in aurocs for role in ("student", "counterfactual")]
    return [blind(one.alias, aurocs[one.replicate or 0]) for one in students]


def test_each_split_counts_once_and_all_together_exclude_a_shift() -> None:
    swaps = {("kd", replicate): 0.7 for replicate in AUROCS}
    data = study(swaps, more=of_replicates(AUROCS), shifted=None)
    cells = {one.alias: one for one in data.figures.plan.cells}
    found = shift_of_splits(data.figures.results, cells)
    assert found is not None
    assert found.auroc == pytest.approx(sum(AUROCS.values()) / 5)
    assert found.standard_error == pytest.approx(ERROR / 5**0.5, rel=1e-4)
    assert found.shifted is False
    assert data.figures.shift_excluded()


@pytest.mark.parametrize(
    ("aurocs", "more"),
    [
        ({7: 0.47}, []),
        (dict.fromkeys(AUROCS, 0.5), []),  # one split under five names
        ({one: value + 0.06 for one, value in AUROCS.items()}, []),
        (AUROCS, [row("student-kd-r7", "loss", "auroc", 0.9, shifted=True)]),
    ],
    ids=["one split", "one split five times", "a shift in all", "a shift in one"],
)
def test_what_excludes_nothing(aurocs: dict[int, float], more: list[dict[str, object]]) -> None:
    swaps = {("kd", replicate): 0.7 for replicate in aurocs}
    data = study(swaps, more=[*of_replicates(aurocs), *more], shifted=None)
    assert not data.figures.shift_excluded()
