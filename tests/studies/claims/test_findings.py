"""From a study's rows to findings: replicates, missing cells, utility, factors and blocks."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from audits.statistics import swap_estimate
from studies.claims import Finding
from studies.claims.blocks_differ import block_statements
from studies.claims.every_technique_leaks import leakage_statements
from studies.claims.factors_matter import factor_statements
from studies.claims.figures import StudyFigures
from studies.claims.findings import finding_of
from studies.claims.matching import at_common_utility, matched_figures, membership_curve
from studies.claims.measures_disagree import crossing_statements
from studies.claims.output import findings_json, verdict_text
from studies.claims.study import ClaimsData
from studies.claims.technique_matters import technique_statements
from studies.compare.comparisons import AttackScores
from studies.compare.primary_attack import LOSS, REFERENCE
from tests.studies.claims.tables import REPLICATES, plan_of, row, study

LEAKS = {"kd": 0.80, "seqkd": 0.75, "imitkd": 0.70, "minillm": 0.60}


def leaking(replicates: tuple[int, ...] = REPLICATES) -> dict[tuple[str, int], float]:
    """Swap estimates that vary by replicate, and a little by technique."""
    rng = np.random.default_rng(5)
    return {
        (name, r): mean + 0.01 * r + 0.004 * float(rng.normal())
        for r in replicates
        for name, mean in LEAKS.items()
    }


def few_tokens(swaps: dict[tuple[str, int], float]) -> dict[tuple[str, int], float]:
    return {key: (value - 0.5) / 5 for key, value in swaps.items()}


def test_five_replicates_that_leak_confirm_c1() -> None:
    swaps = leaking()
    data = study(swaps, few_tokens(swaps))
    finding = finding_of("C1", leakage_statements(data))
    assert (finding.verdict, finding.these_weights) == ("confirmed", None)
    membership = finding.statements[0]
    assert membership.n == "5 replicates"
    own = [swaps["minillm", r] for r in REPLICATES]
    interval = stats.ttest_1samp(own, 0.5).confidence_interval(0.9)
    assert membership.outcome.effect == pytest.approx(np.mean(own))
    assert (membership.outcome.lower, membership.outcome.upper) == pytest.approx(
        (interval.low, interval.high)
    )


def test_what_refutes_c1_beside_a_leak_is_below_the_margin() -> None:
    """A finding that all six leak members is not "refuted" by one of them memorizing little."""
    swaps = leaking()
    rng = np.random.default_rng(0)
    tokens = {key: 0.0005 * float(rng.normal()) for key in swaps}
    finding = finding_of("C1", leakage_statements(study(swaps, tokens)))
    assert [one.outcome.verdict for one in finding.statements] == ["confirmed", "below the margin"]
    assert finding.verdict == "below the margin"
    nothing = {key: 0.5 + 0.001 * float(rng.normal()) for key in swaps}
    finding = finding_of("C1", leakage_statements(study(nothing, tokens)))
    assert finding.verdict == "refuted"


def test_a_missing_cell_makes_a_claim_undecided_and_is_named() -> None:
    swaps = leaking()
    states = {"counterfactual-kd-r3": "failed"}
    finding = finding_of("C1", leakage_statements(study(swaps, few_tokens(swaps), states=states)))
    assert finding.verdict == "undecided"
    assert "failed (counterfactual-kd-r3)" in finding.why
    assert finding.statements[0].n == "4 replicates"
    assert finding.statements[0].outcome.effect is not None


def test_what_was_not_measured_is_named() -> None:
    finding = finding_of("C1", leakage_statements(study(leaking())))
    assert finding.verdict == "undecided"
    assert "token accuracy was not measured" in finding.why
    assert finding.statements[0].outcome.verdict == "confirmed"


def test_the_reference_attack_is_primary_where_the_study_runs_it() -> None:
    assert study(leaking()).figures.attack == LOSS
    more = [row("student-kd-r1", REFERENCE[0], "auroc", 0.9, params=REFERENCE[1])]
    other = study(leaking(), more=more)
    assert other.figures.attack == REFERENCE
    # The loss does not step in for it.
    assert isinstance(other.figures.membership(other.figures.students[0]), str)


def utility(run: str, step: int, nll: float) -> dict[str, object]:
    shared = {"audit": "utility", "population": "never", "step": step}
    return row(run, "perplexity", "perplexity", math.exp(nll), **shared)


def curves(ends: dict[str, float]) -> list[dict[str, object]]:
    """Students that all leak the same at the same utility; each ends where `ends` says."""
    rows = []
    for (name, r), swap in leaking().items():
        for step, share in ((5, 0.0), (7, 0.5), (10, 1.0)):
            nll = 6.0 - share * (6.0 - ends[name])
            run, other = (f"{role}-{name}-r{r}" for role in ("student", "counterfactual"))
            risk = swap if step == 10 else 0.5 + (6.0 - nll) / 10 + 0.001 * r
            rows.append(utility(run, step, nll))
            rows.append(row(run, "loss", "auroc", risk, step=step))
            rows.append(row(other, "loss", "auroc", 1.0 - risk, step=step))
    return rows


def test_equal_utility_is_read_off_the_curves() -> None:
    more = curves({"kd": 4.0, "seqkd": 4.0, "imitkd": 4.0, "minillm": 5.0})
    data = study(leaking(), more=more, coins=True)
    found = matched_figures(data.figures, membership_curve)
    swaps = leaking()
    assert found["student-minillm-r2"] == pytest.approx(swaps["minillm", 2])
    # 5 nats are kd's second checkpoint.
    assert found["student-kd-r2"] == pytest.approx(0.5 + 0.1 + 0.002)
    deciding = [one for one in technique_statements(data) if one.decides]
    assert [one.measure for one in deciding] == ["membership (loss), at equal utility"]
    values = [
        swaps["minillm", r] - (found[f"student-imitkd-r{r}"] + found[f"student-seqkd-r{r}"]) / 2
        for r in REPLICATES
    ]
    assert deciding[0].outcome.effect == pytest.approx(np.mean(values))
    raw = next(one for one in technique_statements(data) if one.measure.endswith("checkpoint"))
    assert raw.outcome.verdict == "confirmed"
    assert not raw.decides


def test_a_curve_that_starts_beyond_is_left_out_by_name_or_stops_the_claim() -> None:
    assert at_common_utility({"a": [(5.0, 0.6), (4.0, 0.8)], "b": [(6.0, 0.5), (4.5, 0.7)]}) == {
        "a": pytest.approx(0.7),
        "b": 0.7,
    }
    found = at_common_utility({"a": [(4.0, 0.6)], "b": [(6.0, 0.5), (5.0, 0.7)]})
    assert found["a"] is None
    ends = {"kd": 4.0, "seqkd": 4.0, "imitkd": 4.0, "minillm": 5.0}
    late = [one for one in curves(ends) if not ("-kd-" in str(one["run"]) and one["step"] != 10)]
    first = technique_statements(study(leaking(), more=late))[0]
    assert first.outcome.details[0].endswith("kd")
    assert len(first.outcome.details) == 1 + 3
    assert not first.outcome.why.startswith("not there")
    late = [one for one in curves(ends) if not ("-seqkd-" in str(one["run"]) and one["step"] != 10)]
    second = technique_statements(study(leaking(), more=late))[0]
    assert second.outcome.verdict == "undecided"
    assert "starts beyond" in second.outcome.why


def test_a_study_without_the_techniques_of_a_claim_says_so() -> None:
    found = technique_statements(study({("kd", r): 0.7 + 0.01 * r for r in REPLICATES}))
    assert all("minillm is not in this study" in one.outcome.why for one in found)
    (alone, _) = crossing_statements(study({("kd", r): 0.7 + 0.01 * r for r in REPLICATES}))
    assert "no second technique" in alone.outcome.why


def test_a_crossing_is_found_over_replicates() -> None:
    swaps = leaking()
    tokens = {key: 0.5 - value / 2 for key, value in swaps.items()}
    finding = finding_of("C4", crossing_statements(study(swaps, tokens)))
    assert finding.verdict == "confirmed"
    assert finding.statements[0].n == "5 replicates"


@pytest.fixture
def single() -> tuple[ClaimsData, dict[str, AttackScores]]:
    """One replicate of two techniques with scores of 80 + 90 records."""
    rng = np.random.default_rng(0)
    scores = {}
    for name, leak in (("kd", 1.0), ("gkd", 0.7)):
        for role, sign in (("student", 1.0), ("counterfactual", -1.0)):
            sides = rng.normal(size=80) + sign * leak, rng.normal(size=90)
            scores[f"{role}-{name}-r1"] = AttackScores(*(pd.Series(side) for side in sides))
    swaps = {
        (name, 1): swap_estimate(
            *(
                side
                for role in ("student", "counterfactual")
                for one in [scores[f"{role}-{name}-r1"]]
                for side in (one.members, one.nonmembers)
            )
        ).value
        for name in ("kd", "gkd")
    }
    attacks = {run: {LOSS: one} for run, one in scores.items()}
    data = study(swaps, few_tokens(swaps))
    return dataclasses.replace(data, read_records=lambda: (attacks, [])), scores


def test_one_replicate_speaks_of_its_weights_alone(
    single: tuple[ClaimsData, dict[str, AttackScores]],
) -> None:
    data, scores = single
    membership = leakage_statements(data)[0]
    assert (membership.about, membership.n) == ("these weights", "1 replicate, 80 + 90 records")
    finding = finding_of("C1", [membership])
    assert (finding.verdict, finding.these_weights) == ("undecided", "confirmed")
    assert verdict_text(finding) == "undecided (these weights only: confirmed)"
    assert "one replicate says nothing about techniques" in finding.why
    sides = [scores[f"{role}-gkd-r1"] for role in ("student", "counterfactual")]
    reference = swap_estimate(
        *(side for one in sides for side in (one.members, one.nonmembers)), level=0.9
    )
    assert membership.outcome.effect == pytest.approx(reference.value, abs=1e-12)
    # Normal bounds against those on the logit scale: alike away from 1.
    assert membership.outcome.lower == pytest.approx(reference.lower, abs=0.01)
    assert membership.outcome.upper == pytest.approx(reference.upper, abs=0.01)


def test_json_holds_every_finding_and_no_infinity(
    single: tuple[ClaimsData, dict[str, AttackScores]],
) -> None:
    findings: list[Finding] = [finding_of("C1", leakage_statements(single[0]))]
    (read,) = json.loads(findings_json(findings))
    assert read["verdict"] == "undecided"
    assert read["statements"][0]["outcome"]["verdict"] == "confirmed"
    assert read["statements"][0]["about"] == "these weights"


def test_an_empty_study_decides_nothing() -> None:
    figures = StudyFigures(plan_of([]), {}, study(leaking()).figures.results)
    empty = dataclasses.replace(study(leaking()), figures=figures)
    for name, statements in (
        ("C1", leakage_statements(empty)),
        ("C2", technique_statements(empty)),
        ("C3", factor_statements(empty)),
        ("C4", crossing_statements(empty)),
        ("C5", block_statements(figures)),
    ):
        assert finding_of(name, statements).verdict == "undecided"
