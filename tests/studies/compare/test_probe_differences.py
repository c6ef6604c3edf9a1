"""A probe's excess over the counterfactual's is the labellings' own arithmetic, or is not told."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from audits.results import params_json, table_from_rows
from studies.compare.probe_differences import probe_difference_rows
from studies.plan.cells import Cell, Plan

BLOCKS, LABELLINGS, STEP = 3, 40, 5
PARAMS = {"folds": 5, "permutations": LABELLINGS, "n_blocks": BLOCKS}
AREAS = {"student": (0.5, 0.6, 0.95), "teacher": (0.7, 0.9, 0.9), "control": (0.5, 0.5, 0.5)}
Row = dict[str, object]


def permuted_areas(role: str) -> np.ndarray:
    """AUROCs [P, L] under permuted labels: half their noise is the texts', common to all runs."""
    shared = np.random.default_rng(0).normal(size=(LABELLINGS, BLOCKS))
    own = np.random.default_rng([1, *role.encode()]).normal(size=(LABELLINGS, BLOCKS))
    return 0.5 + 0.04 * (shared + own)


def areas(role: str) -> np.ndarray:
    return np.array(AREAS.get(role, (0.5, 0.55, 0.5)))


def tables(plan: Plan, labelling: Callable[[Cell, int], str]) -> tuple[list[Row], list[Row]]:
    """The rows that probes of every cell leave, and one membership row of a later step."""
    results: list[Row] = []
    scores: list[Row] = []
    for cell in plan.cells:
        key = {"name": "hidden_probe", "params": PARAMS}
        identity = {"run": cell.alias, "role": cell.role, "seed": cell.seed}
        results += [
            {**identity, "step": STEP + 1, "audit": "membership", "name": "loss", "metric": "auroc"}
        ]
        counts = {"n_members": 30, "n_nonmembers": 20, "skipped": 1, "shifted": False}
        for step, offset in ((STEP - 1, 0.3), (STEP, 0.0)):
            found, null = areas(cell.role) - offset, permuted_areas(cell.role) - offset
            results += [
                {**identity, **key, **counts, "step": step, "audit": "blocks", "metric": "auroc"}
                | {"population": "private", "block": block, "value": float(found[block])}
                for block in reversed(range(BLOCKS))
            ]
            scores += [
                {"run": cell.alias, "step": step, **key, "population": "private/permuted"}
                | {"record": labelling(cell, draw), "block": block}
                | {"score": float(null[draw, block])}
                for draw in reversed(range(LABELLINGS))
                for block in range(BLOCKS)
            ]
    return results, scores


def rows_of(plan: Plan, labelling: Callable[[Cell, int], str]) -> list[Row]:
    results, scores = tables(plan, labelling)
    frame = table_from_rows("scores", scores).to_pandas()
    found = list(probe_difference_rows(plan.cells, table_from_rows("results", results), frame))
    assert table_from_rows("results", found).num_rows == len(found)
    return found


def same_labelling(cell: Cell, draw: int) -> str:
    return f"{draw:04d}-{cell.replicate}"


def test_every_block_has_the_difference_and_its_permuted_spread(
    plan_of: Callable[..., Plan],
) -> None:
    plan = plan_of()
    found = pd.DataFrame(rows_of(plan, same_labelling))
    pairs = found.groupby(["role", "run_b"]).size()
    assert set(pairs) == {BLOCKS}
    role_of = {cell.alias: cell.role for cell in plan.cells}
    assert {(role, role_of[other]) for role, other in pairs.index} == {
        ("teacher", "counterfactual_teacher"),
        ("student", "counterfactual"),
        ("student", "control"),
    }
    for (role, run_b), own in found.groupby(["role", "run_b"]):
        own = own.sort_values("block")
        other = role_of[run_b]
        expected = areas(str(role)) - areas(other)
        null = permuted_areas(str(role)) - permuted_areas(other)
        half = 1.959963984540054 * null.std(axis=0, ddof=1)
        np.testing.assert_allclose(own.value, expected)
        np.testing.assert_allclose(own.upper - own.lower, 2 * half)
        every = np.vstack([expected, null])
        scaled = np.abs(every - every.mean(axis=0)) / every.std(axis=0)
        p_values = [(scaled.max(axis=1) >= scaled[0, b] - 1e-12).mean() for b in range(BLOCKS)]
        np.testing.assert_allclose(own.p_value, p_values)
        # What the texts alone do to both probes is gone from the interval.
        apart = np.hypot(*(permuted_areas(one).std(axis=0) for one in (str(role), other)))
        assert (half / 1.96 < apart).all()
    assert set(found.step) == {STEP}
    assert set(found.params) == {params_json(PARAMS)}
    assert set(zip(found.n_members, found.n_nonmembers, found.skipped, strict=True)) == {
        (30, 20, 1)
    }
    assert set(found.shifted) == {False}


def test_other_folds_are_not_compared(plan_of: Callable[..., Plan]) -> None:
    found = rows_of(plan_of(), lambda cell, draw: f"{draw:04d}-{cell.alias}")
    assert len(found) % BLOCKS == 0
    assert found
    assert not any({"value", "lower", "upper", "p_value"} & set(row) for row in found)


@pytest.mark.parametrize("missing", ["counterfactual", "student"])
def test_a_run_without_probes_has_no_difference(plan_of: Callable[..., Plan], missing: str) -> None:
    plan = plan_of()
    results, scores = tables(plan, same_labelling)
    kept = {cell.alias for cell in plan.cells if cell.role != missing}
    frame = table_from_rows("scores", [row for row in scores if row["run"] in kept]).to_pandas()
    found = list(probe_difference_rows(plan.cells, table_from_rows("results", results), frame))
    role_of = {cell.alias: cell.role for cell in plan.cells}
    assert found
    assert not [row for row in found if missing in (row["role"], role_of[str(row["run_b"])])]
