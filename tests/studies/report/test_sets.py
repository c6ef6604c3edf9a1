"""The page's table of sets that are recognised: a model a row, a column for each size."""

from studies.report.sections.sets import sets
from tests.studies.planted_report import cell, row, study

WHOLE = '{"attacks": 4, "permutations": 999}'
SUBJECTS = '{"attacks": 4, "permutations": 999, "unit": "subject"}'


def planted(role: str, p: float, shares: dict[int, float], replicate: int = 1):
    run = cell(role, replicate=replicate)
    named = {"name": "dataset_inference", "lower": None, "upper": None}
    rows = [
        row(run, "set_effect", 0.5, **named, params=WHOLE, p_value=p),
        row(run, "set_effect", 9.0, **named, params=SUBJECTS, p_value=p),
        *(
            row(run, "sets_detected", share, **named, p_value=0.1, params=f'{{"set_size": {size}}}')
            for size, share in shares.items()
        ),
    ]
    return run, rows


def shown(*models):
    cells, rows = zip(*models, strict=True)
    table = sets(study(list(cells), [one for own in rows for one in own])).tables["sets"]
    titles = [column.title for column in table.columns]
    return [titles, *([one.text for one in cells] for cells in table.rows)]


def test_each_model_has_its_shares_by_size() -> None:
    models = planted("teacher", 0.001, {5: 0.8, 20: 1.0}), planted("control", 0.6, {5: 0.04})
    titles, teacher, control = shown(*models)
    assert titles[1:5] == ["Effect, in standard deviations", "p, all together", "Of 5", "Of 20"]
    assert teacher[1:5] == ["0.50", "0.001", "80%", "100%"]
    assert control[2:5] == ["0.6", "4%", "—"]


def test_replicates_are_averaged_and_the_largest_p_stands() -> None:
    models = [planted("control", p, {5: s}, r) for r, p, s in ((1, 0.2, 0.0), (2, 0.9, 0.1))]
    titles, control = shown(*models)
    assert titles[2] == "Largest p"
    assert control[2:4] == ["0.9", "5%"]


def test_a_study_without_such_rows_has_no_table() -> None:
    run = cell("teacher")
    assert not sets(study([run], [row(run, "auroc", 0.9)])).tables
