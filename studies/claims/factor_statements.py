"""C3: objective, student data and task, each against all else equal."""

from collections.abc import Mapping

from studies.claims.designs import FACTORS, Design, design_of
from studies.claims.factors import factors_matter
from studies.claims.panel import Panel, panel_of
from studies.claims.statements import EQUAL_UTILITY, LAST_CHECKPOINT, untested
from studies.claims.study import ByCell, ClaimsData
from studies.claims.tasks import task_entries
from studies.claims.verdict import MEMBERSHIP_MARGIN, Evidence, Statement, state
from studies.compare.task_matching import record_lengths, record_tasks
from studies.plan.cells import Cell

__all__ = ["factor_statements"]

_MEASURE = "membership"
_TASK = "task"


def factor_statements(data: ClaimsData) -> list[Statement]:
    """Returns a statement for each factor, raw and matched; the matched ones decide.

    Objective and student data are matched on utility, tasks on number of records and lengths of
    responses. Of one replicate the last checkpoint decides, the only one with an interval over
    records; tasks, which have no such outcome, stay undecided. Holm corrects over the factors.
    """
    designs = {factor: _design(data, factor) for factor in FACTORS}
    columns = {name: _by_level(one) for name, one in designs.items() if isinstance(one, Design)}
    tasks = _tasks(data)
    single = len({cell.replicate for cell in data.figures.students}) == 1
    found = []
    for where in (EQUAL_UTILITY, LAST_CHECKPOINT):
        matched = where == EQUAL_UTILITY
        source = data.matched if matched else data.panel
        panels = {name: source(_MEASURE, column) for name, column in columns.items()}
        if matched:
            panels[_TASK] = tasks
        found += _judged(data, panels, {} if matched else columns, where, matched != single)
    for name, reason in designs.items():
        if isinstance(reason, str):
            evidence = Evidence(len(data.panel(_MEASURE, _one).complete), missing=(reason,))
            named = f"{data.named(_MEASURE)} by {name}"
            found.append(state(untested(panel_of([])), named, evidence))
    return found


def _judged(
    data: ClaimsData,
    panels: Mapping[str, Panel],
    columns: Mapping[str, ByCell],
    where: str,
    decides: bool,
) -> list[Statement]:
    clear = data.figures.shift_excluded()
    samples, evidence = {}, {}
    for name, panel in panels.items():
        evidence[name] = panel.evidence(shift_excluded=clear)
        sample = panel.sample()
        if sample is None and name in columns:
            found = data.over_records(_MEASURE, panel, columns[name])
            if found is not None:
                sample = found[0]
                evidence[name] = panel.evidence(shift_excluded=clear, records=found[1])
        if sample is not None:
            samples[name] = sample
    tests = factors_matter(samples, MEMBERSHIP_MARGIN)
    return [
        state(
            tests.get(name) or untested(panel),
            f"{data.named(_MEASURE)} by {name}, {_label(name, where)}",
            evidence[name],
            decides=decides or name == _TASK,
        )
        for name, panel in panels.items()
    ]


def _label(name: str, where: str) -> str:
    return "equal numbers and lengths of responses" if name == _TASK else where


def _design(data: ClaimsData, factor: str) -> Design | str:
    """Returns the design among the students of the first size, replicate and seed that is whole."""
    groups: dict[tuple[str, str, int, int], list[Cell]] = {}
    for cell in data.figures.students:
        groups.setdefault((cell.family, cell.size, cell.replicate, cell.seed), []).append(cell)
    states = data.figures.states
    for cells in groups.values():
        if all(states[cell.id] == "done" for cell in cells):
            return design_of(cells, factor)
    return "no replicate has all of its students"


def _by_level(design: Design) -> ByCell:
    levels = {name: level for level, names in design.levels.items() for name in names}
    return lambda cell: levels.get(str(cell.technique))


def _one(cell: Cell) -> str:
    return "all"


def _tasks(data: ClaimsData) -> Panel:
    scores, memorization = data.record_rows
    tasks, lengths = record_tasks(scores), record_lengths(memorization)
    return panel_of(task_entries(data.figures, data.scores, tasks, lengths))
