"""Rows about techniques: figures are joined by the technique's name, and by the primary attack."""

from collections.abc import Mapping

import pytest

from audits.statistics.agreement import crossings
from studies.compare.disagreement import disagreement_rows
from studies.compare.memorization import Accuracies
from studies.compare.primary_attack import LOSS, REFERENCE, Attack
from studies.plan.cells import Cell
from tests.studies.claims.tables import REPLICATES, cell

PARAMS = {"tokens": 32}
Row = dict[str, object]


def figure(technique: str, replicate: int, which: int) -> float:
    return {"a": 0.6, "b": 0.7, "c": 0.9}[technique] / (1 + which) + 0.01 * replicate**2 % 0.03


def rows_of(membership: str, memorization: str, attack: Attack = LOSS) -> tuple[Accuracies, list]:
    """Cells of techniques a, b, c, and the rows of those that were measured."""
    cells: list[Cell] = []
    rows: list[Row] = []
    for name in "abc":
        for r in REPLICATES:
            ours, theirs = cell("student", name, r), cell("counterfactual", name, r)
            cells += [ours, theirs]
            pair = {"run": ours.alias, "run_b": theirs.alias, "population": "private"}
            swap = {"name": attack[0], "params": attack[1], "metric": "swap_estimate"}
            excess = {"name": "token_accuracy", "metric": "token_accuracy_gap_excess"}
            if name in membership:
                rows.append(pair | swap | {"value": figure(name, r, 0)})
            if name in memorization:
                rows.append(pair | excess | {"params": PARAMS, "value": figure(name, r, 1)})
    return Accuracies(tuple(cells), dict(PARAMS), {}, {}, {}), rows


def crossing_rows(found: list[Row]) -> Mapping[str, list[Row]]:
    names = ("crossing_membership", "crossing_memorization")
    return {name: [row for row in found if row["metric"] == name] for name in names}


def test_techniques_are_paired_by_name_not_by_place() -> None:
    """No membership of a and no memorization of b: two columns each, and only c in both."""
    assert not list(disagreement_rows(*rows_of("bc", "ac"), LOSS))


@pytest.mark.parametrize(("membership", "memorization"), [("ac", "abc"), ("abc", "ac")])
def test_a_technique_without_any_figure_stands_in_no_ranking(
    membership: str, memorization: str
) -> None:
    found = list(disagreement_rows(*rows_of(membership, memorization), LOSS))
    x, y = ([[figure(n, r, which) for n in "ac"] for r in REPLICATES] for which in (0, 1))
    (expected,) = crossings(x, y)
    for name, rows in crossing_rows(found).items():
        (row,) = rows
        params = row["params"]
        assert isinstance(params, dict)
        assert (params["a"], params["b"]) == ("a", "c")
        side = expected.membership if name == "crossing_membership" else expected.memorization
        assert row["value"] == pytest.approx(side.value)


def test_membership_is_that_of_the_primary_attack_and_every_row_names_it() -> None:
    accuracies, rows = rows_of("abc", "abc", REFERENCE)
    found = list(disagreement_rows(accuracies, rows, REFERENCE))
    assert {row["params"]["attack"] for row in found if isinstance(row["params"], dict)} == {
        "reference"
    }
    assert len(crossing_rows(found)["crossing_membership"]) == 3
    assert not list(disagreement_rows(accuracies, rows, LOSS))
