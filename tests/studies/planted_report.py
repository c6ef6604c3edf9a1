"""A study held in memory: cells of several sizes and replicates, and rows planted for them."""

import pandas as pd

from studies.plan.cells import Cell, Plan
from studies.report.study_data import StudyData

COLUMNS = (
    "run role family size technique seed step audit population task block name params metric value "
    "lower upper p_value run_b n_members n_nonmembers skipped shifted attack"
).split()


def cell(
    role: str,
    technique: str | None = None,
    *,
    size: str = "gpt2-base",
    family: str = "gpt2-xl",
    replicate: int = 1,
    fragments: tuple[str, ...] = ("configs/data/dolly.yaml",),
) -> Cell:
    """Makes a cell; a technique names its own fragment."""
    own = (f"configs/techniques/{technique}.yaml",) if technique else ()
    arguments = [word for path in (*fragments, *own) for word in ("-c", path)]
    alias = "-".join(part for part in (role, technique, size, f"r{replicate}") if part)
    return Cell(
        **{"id": alias, "alias": alias, "stage": role, "role": role, "technique": technique},
        **{"family": family, "size": size, "replicate": replicate, "seed": replicate},
        **{"repeat": 1, "student_seed": None, "world": None},
        **{"needs": {}, "run_dir": "nowhere", "output": "export", "arguments": tuple(arguments)},
        threads=1,
    )


def row(of: Cell, metric: str, value: float, **values: object) -> dict[str, object]:
    """Makes a row about private records with an interval of 0.04."""
    estimate = {"value": value, "lower": value - 0.02, "upper": value + 0.02}
    where = {"audit": "membership", "population": "private", "name": "loss", "params": "{}"}
    counts = {"n_members": 300.0, "n_nonmembers": 310.0, "step": 100}
    return {"run": of.alias, "metric": metric} | estimate | where | counts | values


def study(cells: list[Cell], rows: list[dict[str, object]]) -> StudyData:
    """Makes what a report reads of a finished study."""
    order = {one.alias: index for index, one in enumerate(cells)}
    roles = {one.alias: one.role for one in cells}
    plain = {one.alias: " · ".join(filter(None, (one.role, one.technique))) for one in cells}
    kinds = {one.alias: one.alias.replace(f"-r{one.replicate}", "") for one in cells}
    history = pd.DataFrame(rows, columns=COLUMNS)
    history = history.assign(
        order=history["run"].map(order),
        role=history["run"].map(roles),
        label=history["run"],
        label_b=history["run_b"],
        attack=history["name"],
    )
    last = history.groupby(["run", "audit"])["step"].transform("max")
    return StudyData(
        plan=Plan("planted", "Planted", "", "planted.yaml", 1, {}, tuple(cells)),
        cells=tuple(cells),
        states={one.id: "done" for one in cells},
        labels={one.alias: one.alias for one in cells},
        kinds=kinds,
        plain_labels=plain,
        results=history[history["step"] == last],
        history=history,
        technique_rows=history.iloc[:0],
        scores={},
        facts={},
    )
