"""The study's answer: verdicts and figures of planted rows, by the textbook's formulas."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from audits.answer import Figure, ModelAnswer, Statement
from audits.rows import Audit
from studies.plan.cells import Cell
from studies.report.advice import study_advice
from studies.report.answer import study_answer
from studies.report.render import Page, render
from studies.report.study_data import StudyData
from tests.studies.planted_report import cell, row, study

AUROCS = {"teacher": 0.97, "kd": 0.9, "gkd": 0.66, "control": 0.51}
PERPLEXITY = {"teacher": 20.0, "kd": 30.0, "gkd": 34.0, "control": 29.0}
GAP = {"name": "token_accuracy", "audit": "memorization"}


def rows_of(one: Cell, auroc: float, coins: bool = True) -> list[dict[str, object]]:
    """A run's AUROC, the certified TPR, a gap, utility, and whether coins dealt its sides."""
    against = '{"against": "held_out", "tokens": 32}'
    name = one.technique or str(one.role)
    return [
        row(one, "auroc", auroc),
        row(one, "tpr_certified_at_fpr_0.01", 0.02, lower=0.0, upper=0.2),
        row(one, "tpr_at_fpr_0.1", 0.4),
        row(one, "tpr_at_fpr_0.01", float("nan"), lower=float("nan"), upper=float("nan")),
        row(one, "token_accuracy_gap", 0.03, params=against, **GAP),
        row(one, "perplexity", PERPLEXITY[name], audit="utility", name="perplexity")
        | {"population": "never"},
        *([row(one, "dealt_by_coins", 1.0, name="balance")] if coins else []),
    ]


def swap(one: Cell, other: Cell, value: float) -> list[dict[str, object]]:
    beside = {"run_b": other.alias}
    excess = {**GAP, "params": '{"tokens": 32}'}
    return [
        row(one, "swap_estimate", value, **beside),
        row(one, "token_accuracy_gap_excess", 0.02, **beside, **excess, lower=-0.01, upper=0.05),
    ]


def one_replicate(coins: bool = True) -> StudyData:
    teacher, control = cell("teacher"), cell("control")
    students = [cell("student", name) for name in ("kd", "gkd")]
    others = [cell("counterfactual", name) for name in ("kd", "gkd")]
    cells = [teacher, *students, control, *others]
    rows = [
        line
        for one in (teacher, *students, control)
        for line in rows_of(one, AUROCS[one.technique or str(one.role)], coins)
    ]
    for one, other, value in zip(students, others, (0.88, 0.64), strict=True):
        rows += swap(one, other, value)
    return study(cells, rows)


def test_every_model_has_its_verdict_and_students_what_the_private_records_added() -> None:
    answer = study_answer(one_replicate())
    teacher, kd, gkd, control = answer.models
    assert [model.shipped for model in answer.models] == [True, True, True, False]
    words = [model.membership.verdict.word for model in answer.models if model.membership]
    assert words == ["leaks", "leaks", "leaks", "nothing shown"]
    assert [model.swap and model.swap.value for model in answer.models] == [None, 0.88, 0.64, None]
    assert [found.text for found in kd.found] == [
        "40 of 100 [38, 42]",
        "not measurable with 310 non-members",
    ]
    assert kd.memorization is not None
    assert kd.memorization.figure.value == 0.02
    assert kd.memorization.baseline == "its counterfactual over both sides"
    assert kd.memorization.verdict is not None
    assert kd.memorization.verdict.word == "nothing shown"
    assert control.memorization is not None
    assert control.memorization.figure.value == 0.03
    assert gkd.utility is not None
    assert gkd.utility.figure.value == 34.0
    assert gkd.utility_beside is not None
    assert gkd.utility_beside[1].value == 29.0
    assert teacher.utility_beside is None


def test_the_sentence_says_who_leaks_how_much_and_to_whom() -> None:
    said = study_answer(one_replicate()).sentence
    assert said.startswith("The teacher and both students give private records away.")
    assert "who sees log-probabilities of given text" in said
    assert "97 times in 100 for the teacher and 66 to 90 times for the students" in said
    assert said.endswith("For the control, which met no teacher, it is 51 times.")


def test_advice_names_the_front_and_what_a_larger_study_shows() -> None:
    answer = study_answer(one_replicate())
    front, against, larger = answer.advice
    assert "student-gkd-gpt2-base gives least away (swap estimate 0.64, perplexity 34)" in front
    assert "the most useful, student-kd-gpt2-base, has 0.88 at 30" in front
    assert "None is shown to be more useful than the control" in front
    assert "5 replicates or more; here there is one" in larger
    assert "fewer epochs" in against


def test_nothing_is_said_of_sides_that_nobody_knows_to_be_alike() -> None:
    answer = study_answer(one_replicate(coins=False))
    assert {model.membership.verdict.word for model in answer.models if model.membership} == {
        "undecided"
    }
    assert "cannot be judged" in answer.sentence
    assert "Shift between the record sets: not excluded" in answer.caution


@pytest.mark.parametrize(
    ("values", "word"), [((0.53, 0.54, 0.55), "leaks"), ((0.4, 0.54, 0.7), "nothing shown")]
)
def test_of_several_replicates_the_interval_is_over_them(
    values: tuple[float, ...], word: str
) -> None:
    cells, rows = [], []
    for number, value in enumerate(values, 1):
        student, other = (
            cell(role, "kd", replicate=number) for role in ("student", "counterfactual")
        )
        cells += [student, other]
        rows += [*rows_of(student, value), *swap(student, other, value)]
    (kd,) = study_answer(study(cells, rows)).models
    assert kd.membership is not None
    figure = kd.membership.figure
    ends = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (figure.lower, figure.upper) == pytest.approx(ends, abs=1e-12)
    assert figure.value == pytest.approx(np.mean(values), abs=1e-12)
    assert figure.count_text == "3 replicates"
    assert kd.membership.verdict is not None
    assert kd.membership.verdict.word == word


def test_an_unfinished_study_has_an_answer() -> None:
    answer = study_answer(study([], []))
    assert answer.sentence == "No membership audit is finished yet."
    assert answer.models == []


def test_the_first_screen_names_the_worst_task_and_hides_none_of_its_interval() -> None:
    data = one_replicate()
    (student,) = [one for one in data.cells if one.technique == "gkd" and one.role == "student"]
    worst = row(student, "worst_task_auroc", 0.83, task="closed_qa")
    rows = pd.concat([data.results, pd.DataFrame([{**data.results.iloc[0], **worst}])])
    answer = study_answer(replace(data, results=rows.assign(label=rows["run"])))
    page = render(Page("A study", "planted", answer, [], {}))
    assert 'title="closed qa 0.830 [0.810, 0.850]">0.83 <small>closed qa</small>' in page
    assert page.count('class="rest task"') == len(answer.models)
    assert "vegaEmbed =" not in page, "a page without charts carries no library for them"


@pytest.mark.parametrize(
    ("middle", "said"),
    [((0.60, 0.70), "a gives less away than c"), ((0.66, 0.70), "a gives least away")],
)
def test_the_least_risk_is_one_that_is_apart_from_every_other(
    middle: tuple[float, float], said: str
) -> None:
    ends = {"a": (0.55, 0.65), "b": middle, "c": (0.8, 0.9)}
    models = [
        ModelAnswer(
            name,
            name,
            "student",
            swap=Figure("swap_estimate", sum(own) / 2, *own),
            utility=Statement(Audit.utility, "u", "perplexity", Figure("perplexity", 30.0)),
        )
        for name, own in ends.items()
    ]
    assert next(study_advice(one_replicate(), models)).startswith(f"Of these students {said} (")
