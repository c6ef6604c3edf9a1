"""What techniques are called where their runs are shown: what ran, not what was configured."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from audits.mechanism import AUDIT, Mechanism, mechanism_of, shown_technique
from studies.plan.cells import Cell, Plan


def mechanisms_of(results: pd.DataFrame) -> dict[str, Mechanism]:
    """Returns by run what of its technique's mechanism ran, as far as its results say.

    Args:
        results: The merged table `results` of a study.
    """
    rows: dict[str, list[dict[str, object]]] = {}
    for row in results[results["audit"] == AUDIT].to_dict("records"):
        rows.setdefault(row["run"], []).append({str(name): value for name, value in row.items()})
    found = {run: mechanism_of(own) for run, own in rows.items()}
    return {run: mechanism for run, mechanism in found.items() if mechanism is not None}


def as_they_ran(plan: Plan, mechanisms: Mapping[str, Mechanism]) -> Plan:
    """Returns a plan whose techniques bear the names of what their runs did.

    All runs of a technique bear one name, so that they stay one technique in every comparison. The
    techniques of a product are named by two factors and keep those. The defence of a run stands
    behind its technique: what was defended is a technique of its own to whatever groups runs.

    Args:
        plan: The plan that the last run used.
        mechanisms: What `mechanisms_of` returned.
    """
    runs: dict[str, list[Mechanism]] = {}
    for cell in plan.cells:
        if cell.technique and not cell.factors:
            own = runs.setdefault(cell.technique, [])
            own += [mechanisms[cell.alias]] if cell.alias in mechanisms else []
    ran = {technique: shown_technique(technique, own) for technique, own in runs.items()}
    several = Counter(ran.values())
    names = {
        technique: name if several[name] == 1 else f"{name} ({technique})"
        for technique, name in ran.items()
    }
    cells = (
        replace(cell, technique=_defended(names.get(str(cell.technique), cell.technique), cell))
        for cell in plan.cells
    )
    return replace(plan, cells=tuple(cells))


def _defended(technique: str | None, cell: Cell) -> str | None:
    return f"{technique} · {cell.defence}" if technique and cell.defence else technique
