"""The frontier: who is undominated, what a row may be read as, what stands on the page."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from common.guarantee import Certificate, Guarantee
from studies.plan.cells import Cell
from studies.report.defence_rows import defence_rows, over_kinds, reading
from studies.report.pareto import pareto_shares, undominated
from studies.report.sections.defences import defences
from studies.report.study_data import StudyData
from tests.studies.planted_report import cell, row, study

DP = Guarantee(certificate=Certificate.dp, defence="dp_teacher", epsilon=8.0, delta=5e-4)
CEILING = {"certificate": "dp", "defence": "dp_teacher", "unit": "cluster"}
PERPLEXITY = {"audit": "utility", "population": "never", "name": "perplexity"}


def test_undominated_is_whom_no_other_beats() -> None:
    rng = np.random.default_rng(0)
    risk, utility = rng.integers(0, 4, (2, 30)).astype(float)
    expected = [
        not any(
            (r <= risk[i] and u >= utility[i]) and (r < risk[i] or u > utility[i])
            for r, u in zip(risk, utility, strict=True)
        )
        for i in range(30)
    ]
    assert undominated(risk, utility).tolist() == expected
    assert 0 < sum(expected) < 30


@pytest.mark.parametrize(("replicates", "decided"), [(4, False), (6, True)])
def test_replicates_decide_from_five_on(replicates: int, decided: bool) -> None:
    """The second model beats the first by far in one replicate, and is beaten a little in all
    others."""
    rows = pd.DataFrame(
        [
            {"label": label, "replicate": number, "risk": risk, "utility": 1.0}
            for number in range(replicates)
            for label, risk in (("a", 0.6), ("b", 0.61 if number else 0.6 - 0.02 * replicates))
        ]
    )
    shares = pareto_shares(rows)
    draws = replicates**replicates
    never = (replicates - 1) ** replicates / draws
    if decided:  # "a" is undominated where the one replicate is not drawn
        assert shares["a"] == pytest.approx(never, abs=0.04)
        assert shares["b"] == pytest.approx(1 - never, abs=0.04)
    else:
        assert shares.to_dict() == {"a": 0.0, "b": 1.0}


def test_what_is_not_measured_yet_has_no_share() -> None:
    rows = pd.DataFrame(
        {"label": ["a", "b"], "replicate": [1, 1], "risk": [0.6, 0.7], "utility": [1.0, np.nan]}
    )
    assert pareto_shares(rows).fillna(-1.0).to_dict() == {"a": 1.0, "b": -1.0}
    assert pareto_shares(rows.assign(utility=np.nan)).isna().all()


def guarantee_row(of: Cell, told: Guarantee) -> dict[str, object]:
    where = {"audit": "guarantee", "population": None, "name": "guarantee"}
    ends = {"lower": None, "upper": None, "params": json.dumps(told.values)}
    return row(of, "epsilon", 8.0, **where, **ends)


def frontier(ceiling: float = 0.9, teacher_perplexity: float = 20.0) -> StudyData:
    """A public start, an undefended teacher and one with DP, each with a student."""
    start = cell("init")
    cells, rows = [start], [row(start, "perplexity", 25.0, **PERPLEXITY)]
    for defence, risk, told in ((None, 0.8, None), ("dp-8", 0.6, DP)):
        needs = {"model.network.source": (start.id,)}
        teacher = replace(
            cell("teacher", size=defence or "plain"), defence=defence, needs=needs, technique=None
        )
        student = replace(
            cell("student", "kd", size=defence or "plain"),
            **{"defence": defence, "needs": {"model.teacher": (teacher.id,)}},
        )
        cells += [teacher, student]
        for one, perplexity in ((teacher, teacher_perplexity), (student, 30.0)):
            worse = 1.1 if defence else 1.0
            rows.append(row(one, "auroc", risk))
            rows.append(row(one, "perplexity", worse * perplexity, **PERPLEXITY))
            rows.append(row(one, "epsilon_lower", 3.0, params='{"delta": 0.0, "looks": 1}'))
            rows.append(row(one, "epsilon_lower", 0.5, params='{"delta": 0.001, "looks": 1}'))
            if told is not None:
                params = json.dumps(CEILING)
                rows.append(row(one, "auroc_upper", ceiling, params=params))
                rows.append(row(one, "unit_auroc", risk, params=params))
                rows.append(guarantee_row(one, told))
    return study(cells, rows)


def kinds(data: StudyData) -> pd.DataFrame:
    return over_kinds(defence_rows(data)).set_index("kind")


def test_rows_have_risk_utility_ceiling_and_what_is_guaranteed() -> None:
    found = kinds(frontier())
    plain, private = found.loc["student-kd-plain"], found.loc["student-kd-dp-8"]
    assert (private["auroc_upper"], private["guarantee"]) == (0.9, DP.short)
    assert (plain["guarantee"], plain["holds"]) == ("", False)
    assert math.isnan(plain["auroc_upper"])
    # The bound at delta 0 contradicts no guarantee at another.
    assert private["epsilon_lower"] == 0.5
    assert private["perplexity"] == pytest.approx(33.0)
    assert private["learnt"] == "yes"
    assert (reading(plain), reading(private)) == ("no bound", "guaranteed")


def test_what_a_row_may_be_read_as() -> None:
    # Its teacher's interval, 27.5 +- 0.02, does not lie below the public start's 25.
    nothing = kinds(frontier(teacher_perplexity=25.0)).loc["student-kd-dp-8"]
    assert reading(nothing) == "learnt nothing"
    # The measured interval is 0.58 to 0.62: its lower end counts.
    assert reading(kinds(frontier(ceiling=0.575)).loc["student-kd-dp-8"]).startswith("above its")
    assert reading(kinds(frontier(ceiling=0.585)).loc["student-kd-dp-8"]) == "guaranteed"
    assert reading(kinds(frontier(ceiling=0.999)).loc["student-kd-dp-8"]) == "vacuous"
    voided = DP.voided("dp.seed is given")
    told = {**nothing, "guarantee": voided.short, "holds": False, "learnt": "yes"}
    assert reading({**told, "exceeded": False}) == "no guarantee"
    for certificate, expected in (("instance", "these weights only"), ("none", "measured only")):
        other = replace(DP, certificate=Certificate(certificate))
        assert reading({**told, "exceeded": False, "guarantee": other.short}) == expected


def test_the_section_says_what_protects_and_what_it_costs() -> None:
    made = defences(frontier())
    assert made.shown
    table = [[one.text for one in line] for line in made.tables["defences"].rows]
    by_model = {line[0]: line for line in table}
    private = by_model["student-kd-dp-8"]
    assert private[1:6] == ["dp-8", "guaranteed", DP.short, "0.600 [0.580, 0.620]", "0.900"]
    assert by_model["student-kd-plain"][1:4] == ["no defence", "no bound", "—"]
    texts = [part.text for part in made.parts if hasattr(part, "text")]
    (sentence,) = [text for text in texts if text.startswith("**student-kd-dp-8**")]
    assert "-0.200 beside undefended; perplexity 1.10 times the undefended one's" in sentence
    chart = made.charts["defences_perplexity"]
    (drawn,) = [rows for rows in chart["datasets"].values() if "ringed" in rows[0]]
    ringed = {one["label"] for one in drawn if one["ringed"]}
    # Each has what the other lacks; teachers are anchors.
    assert ringed == {"student-kd-plain", "student-kd-dp-8"}
    assert {one["label"]: one["auroc_upper"] for one in drawn}["student-kd-dp-8"] == 0.9


def test_a_student_of_text_alone_has_the_bound_of_its_teachers_text() -> None:
    """Not one of draws by a seed, of log-probabilities, or that starts from its teacher."""
    teacher = replace(cell("teacher"), technique=None)
    cells, rows = [teacher], [row(teacher, "auroc", 0.8)]
    bound = {"audit": "text_bound", "name": "text_bound", "lower": None, "upper": None}
    rows.append(row(teacher, "accuracy_upper", 0.53, params='{"worlds": 16}', **bound))
    for technique, channel, start in (
        ("seqkd", "text of secret draws", ()),
        ("seqkd_soft", "text", ()),
        ("kd", "log-probabilities", ()),
        ("imitkd", "text of secret draws", (teacher.id,)),
    ):
        needs = {"model.teacher": (teacher.id,), "model.network.source": start}
        student = replace(cell("student", technique), needs=needs)
        params = json.dumps({"certificate": "none", "channel": channel})
        told = {"audit": "guarantee", "name": "guarantee", "population": None, "params": params}
        rows += [row(student, "auroc", 0.7), row(student, "auroc_upper", math.nan, **told)]
        cells.append(student)
    found = defence_rows(study(cells, rows)).set_index("technique")["accuracy_upper"].dropna()
    assert found.to_dict() == {"seqkd": 0.53}


def test_an_unfinished_study_has_what_there_is() -> None:
    data = frontier()
    teachers = [one for one in data.cells if one.role != "student"]
    aliases = [one.alias for one in teachers]
    started = study(teachers, data.results[data.results["run"].isin(aliases)].to_dict("records"))
    shown = defences(started)
    assert set(shown.tables) == {"defences"}


def test_a_study_without_defences_has_no_such_section() -> None:
    teacher = cell("teacher")
    assert not defences(study([teacher], [row(teacher, "auroc", 0.9)])).shown
    defended = replace(teacher, defence="dp-8")
    assert not defences(study([defended], [row(defended, "perplexity", 9.0, **PERPLEXITY)])).shown
