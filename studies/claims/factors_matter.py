"""C3: objective, student data and task, each against all else equal."""

from collections.abc import Iterator, Mapping

from studies.claims.designs import FACTORS, design_of
from studies.claims.figures import StudyFigures
from studies.claims.levels import factors_matter
from studies.claims.panel import Entry, Panel, panel_of
from studies.claims.study import EQUAL_UTILITY, LAST_CHECKPOINT, ByCell, ClaimsData
from studies.claims.verdict import MEMBERSHIP_MARGIN, Statement, state

_MEASURE, _TASK = "membership", "task"


def factor_statements(data: ClaimsData) -> list[Statement]:
    """Returns a statement for each factor, raw and matched; the matched ones decide.

    Objective and student data are matched on utility, tasks on number of records and lengths of
    responses. Of one replicate the last checkpoint decides, the only one with an interval over
    records; tasks, which have no such outcome, stay undecided. Holm corrects over the factors.
    """
    designs = {factor: _design(data.figures, factor) for factor in FACTORS}
    columns = {
        name: _by_level(design) for name, design in designs.items() if not isinstance(design, str)
    }
    matched = {name: data.matched(_MEASURE, column) for name, column in columns.items()}
    matched[_TASK] = panel_of(
        _task_entries(data.figures), shift_excluded=data.figures.shift_excluded()
    )
    last = {name: data.panel(_MEASURE, column) for name, column in columns.items()}
    single = len({cell.replicate for cell in data.figures.students}) == 1
    return [
        *_judged(data, matched, {}, EQUAL_UTILITY, decides=not single),
        *_judged(data, last, columns, LAST_CHECKPOINT, decides=single),
        *(_without(data, name, why) for name, why in designs.items() if isinstance(why, str)),
    ]


def _judged(
    data: ClaimsData,
    panels: Mapping[str, Panel],
    columns: Mapping[str, ByCell],
    where: str,
    *,
    decides: bool,
) -> list[Statement]:
    samples = {name: data.sample(_MEASURE, one, columns.get(name)) for name, one in panels.items()}
    tests = factors_matter(
        {name: found[0] for name, found in samples.items() if found}, MEMBERSHIP_MARGIN
    )
    statements = []
    for name, panel in panels.items():
        matched_on = "equal numbers and lengths of responses" if name == _TASK else where
        statements.append(
            panel.statement(
                tests.get(name) or panel.untested(),
                f"{data.named(_MEASURE)} by {name}, {matched_on}",
                records=(samples[name] or (None, ""))[1],
                decides=decides or name == _TASK,
            )
        )
    return statements


def _without(data: ClaimsData, factor: str, reason: str) -> Statement:
    """Returns the statement on a factor whose levels no students of this study differ in alone."""
    replicates = len(data.panel(_MEASURE, lambda cell: "all").complete)
    name = f"{data.named(_MEASURE)} by {factor}"
    return state(panel_of([]).untested(), name, replicates, missing=[reason])


def _design(figures: StudyFigures, factor: str) -> dict[str, str] | str:
    """Returns the design among the students of the first size, replicate and seed that is whole."""
    for cells in figures.compared_students():
        if all(figures.states[cell.id] == "done" for cell in cells):
            return design_of(cells, factor)
    return "no replicate has all of its students"


def _by_level(levels: Mapping[str, str]) -> ByCell:
    return lambda cell: levels.get(str(cell.technique))


def _task_entries(figures: StudyFigures) -> Iterator[Entry]:
    """Yields every student's swap estimate by task, or why there is none."""
    for cell in figures.students:
        tasks = figures.tasks(cell)
        for task, value in ({"": tasks} if isinstance(tasks, str) else tasks).items():
            yield cell.replicate, task, value
