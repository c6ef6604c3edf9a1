"""The last lines of a command: few, no wider than asked, plain, and true to the answer."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from audits.answer import Answer, Figure, Found, ModelAnswer, Statement, model_answer
from audits.answer.console import LINES, console_lines
from audits.rows import Audit
from audits.statistics.verdict import Verdict

PATHS = {"page": "out/report/index.html", "summary": "out/audit.json", "curves": "out/tensorboard"}


def _membership(value: float, word: str) -> Statement:
    figure = Figure("auroc", value, value - 0.05, value + 0.05, 180, 190)
    return Statement(Audit.membership, "loss", "Loss", figure, Verdict(word, f"why {word}"))


def _model(
    name: str, value: float = 0.7, word: str = "leaks", role: str = "student"
) -> ModelAnswer:
    gap = Figure("token_accuracy_gap", 0.123, 0.101, 0.145, 180, 190)
    return ModelAnswer(
        name,
        name,
        role,
        _membership(value, word),
        found=(
            Found(10, Figure("tpr_at_fpr_0.1", 0.62, 0.5, 0.71)),
            Found(1, Figure("tpr_at_fpr_0.01", None, n_nonmembers=40)),
        ),
        memorization=Statement(
            *(Audit.memorization, "token_accuracy", "token accuracy", gap),
            *(Verdict("leaks", "above chance"), "its counterfactual"),
        ),
        utility=Statement(Audit.utility, "perplexity", "perplexity", Figure("perplexity", 12.345)),
        skipped=3,
        cut=4,
    )


def _answer(*models: ModelAnswer) -> Answer:
    return Answer("study", "How much is given away?", "Much of it. " * 30, models, "one caution")


def test_one_model_is_told_audit_by_audit() -> None:
    lines = console_lines(_answer(_model("Student")), PATHS)
    text = " ".join(" ".join(lines).split())
    for told in (
        "membership leaks: AUROC 0.700 [0.650, 0.750], Loss, 180 + 190 records",
        "finds 62 of 100 private records [50, 71] at 10 false accusations per 100, "
        "at 1 not measurable with 40 non-members",
        "memorization leaks: token accuracy +0.123 [+0.101, +0.145] beyond its counterfactual",
        "utility perplexity 12.345",
        "records 3 could not be scored, 4 are longer than the model reads",
        "caution: one caution",
    ):
        assert told in text
    assert lines[-3:] == [
        "page     out/report/index.html",
        "summary  out/audit.json",
        "curves   out/tensorboard",
    ]


def test_records_are_spoken_of_only_where_some_were_not_scored_or_cut() -> None:
    whole = replace(_model("Student"), skipped=0, cut=0)
    lines = console_lines(_answer(whole, whole), PATHS)
    assert not any(line.startswith("records") for line in lines)
    lines = console_lines(_answer(whole, replace(whole, cut=4)), PATHS)
    counted = "records  4 are longer than the model reads (the most of any model)"
    assert counted in lines


@pytest.mark.parametrize("n_models", [0, 1, 2, 8, 30])
@pytest.mark.parametrize("width", [100, 140])
def test_lines_are_few_and_narrow(n_models: int, width: int) -> None:
    models = [_model(f"Student · a technique with a long name {n}") for n in range(n_models)]
    lines = console_lines(_answer(*models), PATHS, width)
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= width
    assert all(path in "\n".join(lines) for path in PATHS.values())


def test_a_long_technique_is_named_without_its_models_role() -> None:
    models = [_model("Student · kd"), _model("Student · offline skew KL")]
    told = [line.split("  ")[0] for line in console_lines(_answer(*models), PATHS, 140)]
    assert {"Student · kd", "Student · offline skew KL"} <= set(told)
    told = [line.split("  ")[0] for line in console_lines(_answer(*models), PATHS, 100)]
    assert {"kd", "offline skew KL"} <= set(told)


def test_of_many_models_the_gravest_are_shown() -> None:
    models = [_model(f"m{n}", 0.5, "nothing shown") for n in range(28)]
    models[13:13] = [_model("worst", 0.9), _model("next", 0.8)]
    lines = console_lines(_answer(*models), PATHS)
    rows = [line for line in lines if " leaks " in line or "no leak shown" in line]
    assert [row.split()[0] for row in rows[:2]] == ["worst", "next"]
    assert f"and {30 - len(rows)} more, less grave, on the page" in lines


def test_a_table_holds_the_swap_estimate_and_no_counterfactual_run() -> None:
    swapped = replace(_model("kd"), swap=Figure("swap_estimate", 0.61, 0.58, 0.64))
    counterfactual = _model("its other", 0.1, "reversed", role="counterfactual")
    lines = console_lines(_answer(swapped, _model("control", 0.5, "clean"), counterfactual), PATHS)
    row = next(line for line in lines if line.startswith("kd"))
    assert "0.61 [0.58, 0.64]*" in row
    assert "62 [50, 71] (n/m, n=40)" in row
    assert "+12.3 [10.1, 14.5]" in row
    assert "swap estimate" in "\n".join(lines)
    assert "its other" not in "\n".join(lines)


def test_no_text_of_a_title_or_path_reaches_the_terminal_as_an_order() -> None:
    evil = "a [/bold] \x1b[31m red\nsecond line"
    lines = console_lines(_answer(_model(evil), _model("other")), {"page": evil})
    assert not any("\x1b" in line or "\n" in line for line in lines)
    shown = io.StringIO()
    Console(file=shown, width=200).print("\n".join(lines), markup=False, highlight=False)
    assert "a [/bold] [31m red second line" in shown.getvalue()


@pytest.mark.parametrize(("role", "told"), [("external", True), ("counterfactual", False)])
def test_an_auroc_far_below_chance_is_called_what_it_is(role: str, *, told: bool) -> None:
    row = {
        **{"audit": "membership", "name": "loss", "metric": "auroc", "population": "external"},
        **{"value": 0.1, "lower": 0.05, "upper": 0.2, "params": "{}", "shifted": True},
    }
    answer = model_answer([row], label="Model", run="m", role=role)
    assert any("the two were exchanged" in caution for caution in answer.cautions) == told
    if told:
        lines = console_lines(Answer("model", "?", "!", [answer]), {})
        assert any(line.startswith("caution: AUROC 0.100 [0.050, 0.200]") for line in lines)
        rows = console_lines(_answer(answer, _model("other")), {})
        assert any(line.startswith("Model  below chance?  0.10 [0.05, 0.20]") for line in rows)
