"""The table of attacks says which correction RMIA used, and whose ranking it has."""

import pytest

from studies.report.sections.leaks import membership_table
from tests.studies.planted_report import cell, row, study

RMIA = {"name": "rmia", "params": '{"a": "tuned"}'}


@pytest.mark.parametrize(
    ("correlations", "shown"),
    [
        ((1.0, 0.99995), "rmia (a = 0.9 to 1, the ranking of Reference)"),
        ((1.0, 0.99), "rmia (a = 0.9 to 1)"),
    ],
)
def test_the_ranking_of_another_attack_is_named(
    correlations: tuple[float, float], shown: str
) -> None:
    cells = [cell("student", "kd", replicate=number) for number in (1, 2)]
    rows = []
    for one, a, correlation in zip(cells, (0.9, 1.0), correlations, strict=True):
        rows += [
            row(one, "auroc", 0.7),
            row(one, "auroc", 0.8, **RMIA),
            row(one, "a", a, **RMIA),
            row(one, "spearman_reference", correlation, **RMIA),
            row(one, "spearman_loss", 0.5, **RMIA),
        ]
    names = [line[1].text for line in membership_table(study(cells, rows)).rows]
    assert names == ["loss", shown]


def test_a_single_run_has_its_own_correction() -> None:
    one = cell("student", "kd")
    planted = [
        row(one, "auroc", 0.8, **RMIA),
        row(one, "a", 0.3, **RMIA),
        row(one, "spearman_loss", 1.0, **RMIA),
    ]
    table = membership_table(study([one], planted))
    assert [line[1].text for line in table.rows] == ["rmia (a = 0.3, the ranking of Loss)"]
