"""A study's plan and table of results, made by hand."""

from collections.abc import Mapping

import pandas as pd

from audits.results import RESULTS
from studies.claims.figures import ACCURACY_PARAMS, StudyFigures
from studies.claims.study import ClaimsData
from studies.plan.cells import Cell, Plan

Key = tuple[str, int]
REPLICATES = (1, 2, 3, 4, 5)


def cell(role: str, technique: str | None, replicate: int, run_dir: str = "nowhere") -> Cell:
    """One run of a small family."""
    alias = "-".join(part for part in (role, technique, f"r{replicate}") if part)
    return Cell(
        **{"id": f"{alias}-0", "alias": alias, "stage": role, "role": role, "family": "gpt2"},
        **{"technique": technique, "size": "tiny", "replicate": replicate, "seed": replicate},
        **{"repeat": 1, "student_seed": None, "world": None},
        **{"needs": {}, "run_dir": run_dir, "output": "export", "arguments": (), "threads": 1},
    )


def row(run: str, name: str, metric: str, value: float, **more: object) -> dict[str, object]:
    """One row of results."""
    columns = dict.fromkeys(RESULTS.names)
    shared = {"run": run, "role": "student", "step": 10, "audit": "membership", "params": "{}"}
    own = {"population": "private", "name": name, "metric": metric, "value": value}
    return {**columns, **shared, **own, **more}


def plan_of(cells: list[Cell]) -> Plan:
    """A plan of these cells."""
    return Plan("small", "Small", "", "small.yaml", 1, {}, tuple(cells))


def study(
    swaps: Mapping[Key, float],
    excesses: Mapping[Key, float] | None = None,
    *,
    more: list[dict[str, object]] | None = None,
    states: Mapping[str, str] | None = None,
    shifted: bool | None = False,
    coins: bool | None = None,
) -> ClaimsData:
    """A study of students and counterfactuals with these endpoints by technique and replicate.

    Args:
        swaps: Swap estimates.
        excesses: Excess of the gap in token accuracy.
        more: Other rows.
        states: States of cells, by alias, that are not done.
        shifted: What the blind baseline says of every run.
        coins: What the data say of who dealt the sides; None, that nothing is said.
    """
    cells = [cell(role, *key) for key in swaps for role in ("student", "counterfactual")]
    rows = list(more or [])
    for key, value in swaps.items():
        run, other = (cell(role, *key).alias for role in ("student", "counterfactual"))
        rows.append(row(run, "loss", "swap_estimate", value, run_b=other))
        rows.append(row(run, "loss", "auroc", value, shifted=shifted))
        if coins is not None:
            rows.append(row(run, "balance", "dealt_by_coins", float(coins), shifted=shifted))
    for key, value in (excesses or {}).items():
        run, other = (cell(role, *key).alias for role in ("student", "counterfactual"))
        shared = {"run_b": other, "params": ACCURACY_PARAMS, "audit": "memorization"}
        rows.append(row(run, "token_accuracy", "token_accuracy_gap_excess", value, **shared))
    known = {one.id: (states or {}).get(one.alias, "done") for one in cells}
    figures = StudyFigures(plan_of(cells), known, pd.DataFrame(rows))
    return ClaimsData(figures, lambda: ({}, []))
