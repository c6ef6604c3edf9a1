"""The page's table of one test over all attacks: a model a row, of several replicates a kind."""

from studies.report.sections.leaks import any_leak_table, leaks
from studies.report.tables import PageTable
from tests.studies.planted_report import cell, row, study

PARAMS = '{"attacks": 4, "largest": "loss", "permutations": 999}'


def planted(role: str, replicate: int, p: float) -> tuple[object, dict[str, object]]:
    run = cell(role, replicate=replicate)
    named = {"name": "any_attack", "params": PARAMS, "p_value": p, "lower": None, "upper": None}
    return run, row(run, "max_t", 3.25, **named)


def shown(table: PageTable) -> list[list[str]]:
    return [[column.title for column in table.columns]] + [
        [one.text for one in cells] for cells in table.rows
    ]


def test_one_replicate_shows_each_models_test() -> None:
    cells, rows = zip(planted("teacher", 1, 0.001), planted("control", 1, 0.4), strict=True)
    table = leaks(study(list(cells), list(rows))).tables["any_leak"]
    titles, teacher, control = shown(table)
    assert titles[:4] == ["Model", "Strongest attack", "Standardised AUROC", "p (max-T)"]
    assert teacher[1:3] == ["Loss", "3.25"]
    assert (teacher[3], control[3]) == ("0.001", "0.4")
    assert teacher[4:] == ["4", "300", "310"]
    assert table.frame["p_value"].tolist() == [0.001, 0.4]


def test_several_replicates_count_the_runs_that_reject() -> None:
    planted_runs = [planted("control", r, p) for r, p in enumerate((0.01, 0.3, 0.9), start=1)]
    cells, rows = zip(*planted_runs, strict=True)
    table = leaks(study(list(cells), list(rows))).tables["any_leak"]
    _, control = shown(table)
    assert control[1:] == ["3", "1", "0.01", "0.9", "4"]
    assert len(table.frame) == 3


def test_a_study_without_such_rows_has_no_table() -> None:
    run = cell("teacher")
    assert any_leak_table(study([run], [row(run, "auroc", 0.9)])) is None
