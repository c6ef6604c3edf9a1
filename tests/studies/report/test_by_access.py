"""The page's table of what each kind of access finds: attacks named before any result."""

from studies.report.answer import study_answer
from studies.report.sections.by_access import by_access
from tests.studies.planted_report import cell, row, study

ATTACKS = (
    ("loss", "{}", 0.70),
    ("zlib", "{}", 0.99),
    ("top_k_loss", '{"k": 5}', 0.66),
    ("min_k_plus_plus", '{"k": 0.2}', 0.72),
)


def planted(replicates: int) -> list[list[str]]:
    """Each replicate finds .02 more than the one before it."""
    cells = [cell("student", "kd", replicate=number) for number in range(1, replicates + 1)]
    rows = [
        row(one, metric, value + 0.02 * place, name=name, params=params)
        for place, one in enumerate(cells)
        for name, params, value in ATTACKS
        for metric in ("auroc", "tpr_at_fpr_0.1")
    ]
    of_subjects = row(cells[0], "auroc", 0.9, name="loss", params='{"unit": "subject"}')
    data = study(cells, [*rows, of_subjects])
    told = study_answer(data).models[0].by_access
    (table,) = by_access(data).tables.values()
    assert [line[1].text for line in table.rows] == [one.membership.title for one in told]
    return [[one.text for one in line] for line in table.rows]


def test_a_run_has_a_line_for_each_access_and_no_other_attack() -> None:
    lines = planted(1)
    assert [line[:4] for line in lines] == [
        [
            "top-5 log-probabilities",
            "Top-k loss (k 5)",
            "0.660 [0.640, 0.680]",
            "66 of 100 [64, 68]",
        ],
        ["log-probabilities of given text", "Loss", "0.700 [0.680, 0.720]", "70 of 100 [68, 72]"],
        [
            "whole next-token distributions",
            "Min-K%++ (k 0.2)",
            "0.720 [0.700, 0.740]",
            "72 of 100 [70, 74]",
        ],
    ]
    assert {line[-3] for line in lines} == {"undecided"}  # nothing says that the sides are alike
    assert {tuple(line[-2:]) for line in lines} == {("300", "310")}


def test_replicates_are_one_line_with_their_mean() -> None:
    lines = planted(3)
    assert [line[2].split(" ")[0] for line in lines] == ["0.680", "0.720", "0.740"]


def test_a_study_without_attacks_has_no_table() -> None:
    one = cell("student", "kd")
    found = by_access(study([one], [row(one, "perplexity", 30.0, audit="utility")]))
    assert not found.shown
    assert found.parts == ()
