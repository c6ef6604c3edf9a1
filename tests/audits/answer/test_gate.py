"""A release gate lets nothing pass that it cannot measure, and tells every line that fails."""

import json
import math
from pathlib import Path

import pytest

from audits.answer.gate import Condition, conditions_of, failures
from common.errors import UserError

_RUNS = {"s": "Student", "t": "Teacher"}


def _row(run: str, name: str, metric: str, value: float | None, **more: object) -> dict:
    row = {
        **{"run": run, "audit": "membership", "name": name, "metric": metric, "value": value},
        **{"lower": None, "upper": None, "p_value": None, "task": None, "block": None},
        **{"population": "private", "run_b": None, "params": "{}", "shifted": False},
        **{"n_members": 120, "n_nonmembers": 100, **more},
    }
    return {**row, "params": json.dumps(row["params"]) if row["params"] != "{}" else "{}"}


ROWS = [
    _row("s", "loss", "auroc", 0.7, lower=0.6, upper=0.8),
    _row("s", "loss", "tpr_at_fpr_0.01", None),
    _row("s", "loss", "tpr_at_fpr_0.1", math.nan),
    _row("s", "loss", "auroc", 0.99, lower=0.98, upper=1.0, task="summarization"),
    _row("s", "loss", "auroc", 0.98, params={"unit": "subject"}),
    _row("s", "loss", "auroc", 0.97, population="canary"),
    _row("s", "min_k", "auroc", 0.9, lower=0.85, upper=0.95, params={"k": 0.2}),
    _row("s", "min_k", "auroc", 0.4, lower=0.3, upper=0.5, params={"k": 0.4}),
    _row("s", "loss", "swap_estimate", 0.66, run_b="c"),
    _row("s", "loss", "auroc_difference", 0.2, run_b="c"),
    _row("s", "loss", "auroc_difference", 0.1, run_b="d"),
    _row("s", "any_attack", "max_t", 9.0, p_value=0.001),
    _row("s", "logit_lens", "auroc", 0.55, audit="blocks", block=0),
    _row("s", "logit_lens", "auroc", 0.65, audit="blocks", block=1),
    *(
        _row(
            "s",
            "token_accuracy",
            "token_accuracy_gap",
            value,
            audit="memorization",
            params={"tokens": 32, **params},
        )
        for value, params in (
            (0.2, {"against": "held_out"}),
            (0.3, {"against": "never"}),
            (0.9, {"against": "held_out", "length": "32+"}),
        )
    ),
    _row("t", "loss", "auroc", 0.95, lower=0.9, upper=0.99),
]


def told(*lines: str) -> list[str]:
    return failures(conditions_of(lines), ROWS, _RUNS, {"s"})


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("membership/loss.auroc.lower > 0.59", "0.6 (120 + 100 records)"),
        ("membership.auroc.value>=0.7", "0.7 (120 + 100 records)"),
        ("s:membership/loss.auroc.value == 0.7", "0.7 (120 + 100 records)"),
        ("Student:membership/loss.auroc.upper <= .8", "0.8 (120 + 100 records)"),
        ("membership/min_k (k=0.2).auroc.lower > 0.8", "0.85 (120 + 100 records)"),
        ("membership/loss.auroc.n_nonmembers < 1000", "100 (120 + 100 records)"),
        ("membership.max_t.p_value < 0.05", "0.001 (120 + 100 records)"),
        ("membership/loss.swap_estimate.value > 0.6", "0.66 (beside c, 120 + 100 records)"),
        ("memorization.token_accuracy_gap.value >= 0.1", "0.2 (120 + 100 records)"),
        ("blocks/logit_lens.auroc.value > 0.6", "0.65 (block 1, 120 + 100 records)"),
    ],
)
def test_a_line_that_holds_fails_with_the_figure(line: str, found: str) -> None:
    assert told(line) == [f"{line}: of Student it is {found}"]


@pytest.mark.parametrize(
    "line",
    [
        "membership/loss.auroc.lower > 0.6",
        "membership.auroc.value < 0.7",
        "membership/min_k (k=0.4).auroc.upper > 0.5",
        "membership/loss.auroc_difference.value > 0.2",
        "memorization/token_accuracy.token_accuracy_gap.value > 0.2",
        "blocks/logit_lens.auroc.value > 0.65",
    ],
)
def test_a_line_that_does_not_hold_passes(line: str) -> None:
    assert told(line) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("membership/loss.tpr_at_fpr_0.01.lower > 0.05", "not measurable"),
        ("membership/loss.tpr_at_fpr_0.1.value <= 1", "not measurable"),
        ("membership/loss.auroc.p_value < 0.05", "not measurable"),
        ("membership/loss.tpr_at_fpr_0.001.value > 0", "did you mean tpr_at_fpr_0.01?"),
        ("membership/loss.tpr_at_fpr_0.value > 0", "not measured"),
        ("membership/zlibb.auroc.value > 2", "not measured by zlibb"),
        ("membership/min_k.auroc.value > 2", "min_k (k=0.2), min_k (k=0.4): say which"),
        ("utility.perplexity.value < 0", "not measured (there are none)"),
        ("pupil:membership.auroc.value > 2", "no such model; there are Student, Teacher"),
    ],
)
def test_what_is_absent_or_not_measurable_never_passes(line: str, reason: str) -> None:
    (failure,) = told(line)
    assert failure.startswith(f"{line}: ")
    assert reason in failure


def test_every_line_is_told_and_a_teacher_that_is_named() -> None:
    lines = ("membership.auroc.value > 0.5", "t:membership.auroc.value > 0.5")
    assert [line.partition(" it is ")[2][:4] for line in told(*lines)] == ["0.7 ", "0.95"]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("membership.auroc.value", "no line such as membership/loss"),
        ("membership.auroc > 0.5", "no line such as membership/loss"),
        ("membership.auroc.value => 0.5", "no line such as membership/loss"),
        ("membership.auroc.value > half", "no line such as membership/loss"),
        ("membership.auroc.value > nan", "no line such as membership/loss"),
        ("memberships.auroc.value > 0.5", "did you mean membership?"),
        ("membership/loss.auroc.lowr > 0.5", "did you mean lower?"),
        ("lost/gate.txt", "is no file"),
    ],
)
def test_a_line_that_is_none_is_told_with_the_nearest(line: str, hint: str) -> None:
    with pytest.raises(UserError, match=r".*") as refused:
        conditions_of([line])
    assert hint in str(refused.value)


def test_a_file_holds_lines_with_comments_and_a_mistake_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "gate.txt"
    line = "membership/loss.auroc.lower > 0.5"
    path.write_text(f"# before a release\n\n{line}  # chance\nutility.perplexity.value > 40\n")
    assert [one.text for one in conditions_of([str(path), line])] == [
        line,
        "utility.perplexity.value > 40",
        line,
    ]
    path.write_text("\nmembership.auroc > 1\n")
    with pytest.raises(UserError, match=r"gate\.txt:2: "):
        conditions_of([str(path)])


def test_a_metric_is_one_whole_name() -> None:
    found = Condition.parse("membership/rmia (a=0.3).tpr_at_fpr_1e-05.lower>1e-3")
    assert (found.attack, found.metric) == ("rmia (a=0.3)", "tpr_at_fpr_1e-05")
    assert (found.field, found.number) == ("lower", 0.001)
