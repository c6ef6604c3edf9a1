"""The rule of each claim on tables whose verdict is worked out by hand with scipy."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics.agreement import crossings
from studies.claims.every_technique_leaks import every_technique_leaks
from studies.claims.levels import factors_matter, levels_differ
from studies.claims.measures_disagree import measures_disagree
from studies.claims.sample import Sample
from studies.claims.technique_matters import technique_matters
from studies.claims.verdict import Outcome, state

# Means 0, standard deviation 1, five replicates: the standard error of a mean is 1/sqrt(5).
PATTERN = np.array([-1.0, 1.0, 0.0, -1.0, 1.0])
PATTERN = (PATTERN - PATTERN.mean()) / PATTERN.std(ddof=1)
OTHER = np.array([1.0, 1.0, 0.0, -1.0, -1.0]) / 1.0
T = float(stats.t.isf(0.05, 4)) / 5**0.5


def table(means: dict[str, float], sd: float = 0.01) -> Sample:
    """Columns of these means; every difference of two columns has a standard deviation of sd."""
    rng = np.random.default_rng(len(means))
    basis = np.linalg.qr(np.column_stack([np.ones(5), rng.normal(size=(5, 4))]))[0][:, 1:]
    noise = [basis[:, i % 4] * 2.0 * sd / 2**0.5 for i in range(len(means))]
    return Sample.of_replicates(tuple(means), np.column_stack(noise) + list(means.values()))


def single(mean: float, sd: float) -> Sample:
    return Sample.of_replicates(("kd",), (mean + sd * PATTERN)[:, None])


@pytest.mark.parametrize(
    ("mean", "sd", "verdict"),
    [
        (0.5 + 1.01 * T * 0.1, 0.1, "confirmed"),
        (0.5 + 0.99 * T * 0.1, 0.1, "undecided"),
        (0.52 - 1.01 * T * 0.1, 0.1, "refuted"),
        (0.52 - 0.99 * T * 0.1, 0.1, "undecided"),
        # Above 0.5 and below 0.52 for certain: a leak, if a small one.
        (0.51, 0.0001, "confirmed"),
    ],
)
def test_c1_flips_where_the_bound_does(mean: float, sd: float, verdict: str) -> None:
    outcome = every_technique_leaks(single(mean, sd), 0.5, 0.02)
    assert outcome.verdict == verdict
    assert (outcome.lower, outcome.upper) == pytest.approx((mean - T * sd, mean + T * sd))


def test_c1_needs_every_technique_and_names_the_weakest() -> None:
    leaking = {"kd": 0.7, "gkd": 0.6, "seqkd": 0.65}
    assert every_technique_leaks(table(leaking), 0.5, 0.02).verdict == "confirmed"
    silent = every_technique_leaks(table({**leaking, "imitkd": 0.499}), 0.5, 0.02)
    assert silent.verdict == "refuted"
    assert "imitkd" in silent.what
    assert "imitkd" in silent.why
    unclear = every_technique_leaks(table({**leaking, "imitkd": 0.51}, sd=0.05), 0.5, 0.02)
    assert unclear.verdict == "undecided"


def test_c1_is_undecided_where_all_replicates_agree() -> None:
    """Rates of 0 in every replicate are no proof that a technique memorizes nothing."""
    constant = Sample.of_replicates(("kd", "gkd"), np.column_stack([np.zeros(5), 0.1 + PATTERN]))
    outcome = every_technique_leaks(constant, 0.0, 0.01)
    assert outcome.verdict == "undecided"
    assert "not computable of kd" in outcome.why
    found = state(every_technique_leaks(single(0.0, 0.0), 0.0, 0.01), "m", 5).outcome
    assert (found.effect, found.lower, found.upper, found.mde) == (0.0, None, None, None)


def test_no_rule_decides_without_a_variance() -> None:
    flat = {"minillm": 0.5, "imitkd": 0.7, "seqkd": 0.7}
    sample, other = table(flat, sd=0.0), table({**flat, "minillm": 0.9}, sd=0.0)
    outcomes = (
        technique_matters(sample, 0.02),
        levels_differ(sample, 0.02),
        measures_disagree(sample, other),
    )
    for outcome in outcomes:
        assert outcome.verdict == "undecided"
        assert "no variance" in outcome.why
        assert outcome.p_value == 1.0


def test_c1_pays_for_the_number_of_techniques_only_when_it_refutes() -> None:
    """One of two with p = 0.03 is refuted alone and no more beside another (Holm)."""
    mean = 0.52 - float(stats.t.isf(0.03, 4)) / 5**0.5 * 0.1
    alone = (mean + 0.1 * PATTERN)[:, None]
    assert every_technique_leaks(Sample.of_replicates(("kd",), alone), 0.5, 0.02).verdict == (
        "refuted"
    )
    both = np.hstack([alone, 0.9 + 0.01 * OTHER[:, None]])
    assert every_technique_leaks(Sample.of_replicates(("kd", "gkd"), both), 0.5, 0.02).verdict == (
        "undecided"
    )


@pytest.mark.parametrize(
    ("minillm", "verdict"), [(0.60, "confirmed"), (0.695, "refuted"), (0.685, "undecided")]
)
def test_c2_judges_the_contrast_against_its_margin(minillm: float, verdict: str) -> None:
    sample = table({"minillm": minillm, "imitkd": 0.72, "seqkd": 0.68, "kd": 0.8}, sd=0.012)
    outcome = technique_matters(sample, 0.02)
    values = sample.values
    assert values is not None
    contrast = values[:, 0] - values[:, 1:3].mean(axis=1)
    beyond = stats.ttest_1samp(contrast, -0.02, alternative="less").pvalue
    above = stats.ttest_1samp(contrast, -0.02, alternative="greater").pvalue
    expected = "confirmed" if beyond <= 0.05 else "refuted" if above <= 0.05 else "undecided"
    assert outcome.verdict == verdict == expected
    assert outcome.effect == pytest.approx(contrast.mean())
    assert len(outcome.details) == 6


def test_c2_needs_the_variance_as_well() -> None:
    """A contrast that is beyond the margin where techniques are not told apart."""
    sample = table({"minillm": 0.0, "imitkd": 0.1, "seqkd": 0.1}, sd=0.01)
    noisy = Sample.of_replicates(
        (*sample.columns, "kd", "gkd"),
        np.hstack([np.asarray(sample.values), 0.05 + np.column_stack([PATTERN, -PATTERN])]),
    )
    assert technique_matters(sample, 0.02).verdict == "confirmed"
    found = technique_matters(noisy, 0.02)
    assert noisy.p_equal() > 0.05
    assert found.verdict == "undecided"


def test_a_factor_needs_a_difference_beyond_the_margin() -> None:
    assert levels_differ(table({"a": 0.6, "b": 0.7, "c": 0.62}), 0.02).verdict == "confirmed"
    equal = levels_differ(table({"a": 0.6, "b": 0.605, "c": 0.602}, sd=0.005), 0.02)
    assert equal.verdict == "refuted"
    # Levels surely differ, and by less than the margin.
    small = table({"a": 0.6, "b": 0.61}, sd=0.001)
    assert small.p_equal() < 0.001
    assert levels_differ(small, 0.02).verdict == "refuted"
    assert levels_differ(table({"a": 0.6, "b": 0.7}, sd=0.2), 0.02).verdict == "undecided"


def test_a_factors_largest_difference_pays_for_all_pairs() -> None:
    sample = table({"a": 0.7, "b": 0.6, "c": 0.61, "d": 0.62}, sd=0.03)
    values = np.asarray(sample.values)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    p_values = [
        stats.ttest_1samp(values[:, i] - values[:, j], 0.02, alternative="greater").pvalue
        for i, j in pairs
    ]
    outcome = levels_differ(sample, 0.02)
    assert outcome.p_value == pytest.approx(max(12 * min(p_values), sample.p_equal()))
    intervals = [
        stats.ttest_rel(values[:, i], values[:, j], alternative="less").confidence_interval()
        for i, j in pairs
    ]
    # Whatever pair is truly the largest, its own bound holds it: the highest is below no margin
    # that the refutation does not reject.
    assert outcome.upper == pytest.approx(max(one.high for one in intervals))


def test_a_refuted_factor_has_its_upper_bound_below_the_margin() -> None:
    sample = table({"a": 0.6, "b": 0.602, "c": 0.601}, sd=0.01)
    upper = float(str(levels_differ(sample, 0.02).upper))
    assert levels_differ(sample, upper + 1e-6).verdict == "refuted"
    assert levels_differ(sample, upper - 1e-6).verdict == "undecided"


def test_three_factors_are_a_family_of_three() -> None:
    samples = {name: table({"a": 0.7, "b": 0.6}, sd=0.05) for name in ("x", "y", "z")}
    alone = levels_differ(samples["x"], 0.02)
    assert alone.verdict == "confirmed"
    together = factors_matter(samples, 0.02)
    assert {one.verdict for one in together.values()} == {"undecided"}
    assert together["x"].p_value == pytest.approx(3 * float(str(alone.p_value)))


def test_c4_is_the_crossing_test_over_replicates() -> None:
    up, down = {"kd": 0.8, "gkd": 0.7, "imitkd": 0.6}, {"kd": 0.1, "gkd": 0.2, "imitkd": 0.05}
    x, y = table(up, sd=0.01), table(down, sd=0.005)
    outcome = measures_disagree(x, y)
    reference = crossings(np.asarray(x.values), np.asarray(y.values))
    assert outcome.verdict == "confirmed"
    assert "kd and gkd cross" in outcome.why
    assert outcome.p_value == min(one.p_value for one in reference if one.p_value is not None)
    assert outcome.effect == pytest.approx(0.1)


def test_c4_is_refuted_where_both_rank_alike() -> None:
    x = table({"kd": 0.8, "gkd": 0.7}, sd=0.005)
    assert measures_disagree(x, table({"kd": 0.2, "gkd": 0.1}, sd=0.002)).verdict == "refuted"
    # Beyond both margins on membership alone is no crossing.
    assert measures_disagree(x, table({"kd": 0.1, "gkd": 0.1}, sd=0.05)).verdict == "undecided"


def test_c4_over_records_takes_normal_errors() -> None:
    def records(means: list[float], error: float) -> Sample:
        return Sample(("kd", "gkd"), np.array(means), error**2 / 2 * np.eye(2), np.inf, None)

    found = measures_disagree(records([0.7, 0.6], 0.03), records([0.1, 0.2], 0.05))
    z = min((0.1 - 0.02) / 0.03, (0.1 - 0.01) / 0.05)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(z))


LEAK = Outcome("confirmed", 0.7, "a figure", 0.6, 0.8, 0.01, 0.55, "each lies above 0.5")


def test_fewer_than_five_replicates_decide_nothing() -> None:
    assert state(LEAK, "m", 5).outcome.verdict == "confirmed"
    four = state(LEAK, "m", 4)
    assert four.outcome.verdict == "undecided"
    assert "R = 4" in four.outcome.why
    assert four.outcome.effect == 0.7


def test_records_speak_of_weights_and_missing_figures_stop_everything() -> None:
    weights = state(LEAK, "m", 1, records="90 + 90 records")
    assert (weights.about, weights.outcome.verdict) == ("these weights", "confirmed")
    missing = ("a: failed", "b: failed", "there is no c")
    for replicates, records in ((5, ""), (1, "90 records")):
        found = state(LEAK, "m", replicates, records=records, missing=missing)
        assert found.outcome.verdict == "undecided"
        assert "failed (a, b), there is no c" in found.outcome.why


def test_a_shift_that_is_not_excluded_stops_confirmations_and_refutations_alike() -> None:
    """It can hide a leak, and pass for one: see tests/studies/compare/test_shift.py."""
    refuted = Outcome("refuted", 0.5, "a figure")
    for outcome in (refuted, LEAK):
        assert state(outcome, "m", 5).outcome.verdict == outcome.verdict
        gated = state(outcome, "m", 5, shift_excluded=False).outcome
        assert gated.verdict == "undecided"
        assert "coins are not known to have dealt" in gated.why
    nothing = Outcome("undecided", 0.5, "a figure", why="wide")
    assert state(nothing, "m", 5, shift_excluded=False).outcome.why == "wide"
