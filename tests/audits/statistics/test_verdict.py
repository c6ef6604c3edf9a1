"""Verdicts: the table of rules, leaks and cleanness against their scores, the effect visible."""

import numpy as np
import pytest
from scipy import stats

from audits.statistics import auroc, certified_tpr
from audits.statistics.proportions import clopper_pearson
from audits.statistics.verdict import (
    CLEAN_CAVEAT,
    CLEAN_TPR,
    RECORDS_FOR_CLEAN,
    RULES,
    TAIL_FPR,
    Verdict,
    admitted,
    auroc_verdict,
    gap_verdict,
    is_clean,
)

SMALL = 0.028
"""A certified upper bound that lets a model be clean."""


def judged(members: np.ndarray, nonmembers: np.ndarray) -> Verdict:
    area, tail = auroc(members, nonmembers), certified_tpr(members, nonmembers, TAIL_FPR)
    return auroc_verdict(area.lower, area.upper, False, tail.upper, tpr_lower=tail.lower)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((0.55, 0.75, SMALL, 0.0), ("leaks", "undecided", "undecided")),
        ((0.521, 0.549, SMALL, 0.0), ("leaks", "undecided", "undecided")),
        ((0.49, 0.51, 0.06, 0.03), ("leaks", "undecided", "undecided")),
        ((0.25, 0.45, 0.06, 0.03), ("leaks", "undecided", "undecided")),
        ((0.25, 0.45, SMALL, 0.0), ("reversed", "undecided", "undecided")),
        ((0.47, 0.53, SMALL, 0.0), ("clean", "undecided", "undecided")),
        ((0.47, 0.53, 0.031, 0.0), ("nothing shown", "undecided", "undecided")),
        ((0.47, 0.53, None, None), ("nothing shown", "undecided", "undecided")),
        ((0.42, 0.58, SMALL, 0.0), ("nothing shown", "undecided", "undecided")),
        ((0.50, 0.58, SMALL, 0.01), ("nothing shown", "undecided", "undecided")),
    ],
)
def test_the_bounds_and_the_gate_decide_together(
    figures: tuple[float, float, float | None, float | None], words: tuple[str, str, str]
) -> None:
    lower, upper, tpr_upper, tpr_lower = figures
    found = [
        auroc_verdict(lower, upper, shifted, tpr_upper, tpr_lower=tpr_lower).word
        for shifted in (False, None, True)
    ]
    assert tuple(found) == words


def test_a_significant_leak_is_none_the_less_one_inside_the_margin() -> None:
    assert str(auroc_verdict(0.521, 0.549, False)) == "leaks: AUROC above chance"
    assert str(auroc_verdict(0.521, 0.549, False, SMALL)) == "leaks: AUROC above chance"
    both = auroc_verdict(0.521, 0.549, False, 0.06, tpr_lower=0.03)
    assert str(both) == "leaks: AUROC above chance and TPR at 1% FPR at least 0.030"
    tail = auroc_verdict(0.47, 0.53, None, 0.06, tpr_lower=0.03)
    assert str(tail).startswith("undecided: TPR at 1% FPR at least 0.030, and the texts")


def test_clean_names_what_it_does_not_exclude() -> None:
    clean = auroc_verdict(0.48, 0.52, False, SMALL)
    assert clean.word == "clean"
    assert clean.why.startswith("for these attacks; up to 2% of members may be fully exposed; ")
    assert CLEAN_CAVEAT in RULES
    # With 2% of the members above every non-member the TPR at 1% FPR is at the limit.
    assert pytest.approx(CLEAN_TPR, abs=2e-4) == 0.02 + 0.98 * TAIL_FPR


@pytest.mark.parametrize("n", [1_000, 10_000])
def test_members_that_are_given_away_whole_are_never_called_clean(n: int) -> None:
    """4% of them: the AUROC of 0.52 is equivalent to chance in most runs."""
    rng = np.random.default_rng(n)
    words, equivalent = [], 0
    for _ in range(40 if n < 10_000 else 6):
        members = np.where(rng.random(n) < 0.04, 9.0, rng.normal(size=n))
        nonmembers = rng.normal(size=n)
        near = auroc(members, nonmembers, level=0.90)
        equivalent += is_clean(near.lower, near.upper, 0.0)
        words.append(judged(members, nonmembers).word)
    assert equivalent > 0.6 * len(words)
    assert "clean" not in words
    assert words.count("leaks") > 0.9 * len(words)


def test_a_model_without_a_leak_is_called_clean_from_the_number_of_records_that_is_named() -> None:
    def power(n: int) -> float:
        """Probability that the certified bound lies within the limit, and no AUROC stands out.

        Of n + n scores of one distribution, the members above the (j + 1)-th largest non-member
        are a negative hypergeometric number, which does not depend on the distribution.
        """
        rank = next(j for j in range(n) if stats.binom.cdf(j, n, TAIL_FPR) >= 0.975)
        hits = np.arange(rank + 30)
        few = [clopper_pearson(float(one), n, 0.05)[1] <= CLEAN_TPR for one in hits]
        tail = stats.betabinom.pmf(hits, n, rank + 1, n - rank)[few].sum()
        error = (1 / (6 * n)) ** 0.5
        reach = min(stats.norm.isf(0.025), 0.05 / error - stats.norm.isf(0.05))
        return float(tail * (1 - 2 * stats.norm.sf(reach)))

    # The two tests are not independent, hence about.
    assert power(RECORDS_FOR_CLEAN) == pytest.approx(0.8, abs=0.02)
    assert power(RECORDS_FOR_CLEAN - 200) < 0.76
    assert power(600) == pytest.approx(0.3, abs=0.05)
    assert f"{RECORDS_FOR_CLEAN:,} clusters" in RULES


def test_no_verdict_is_clean_where_the_90_percent_interval_of_the_scores_is_not() -> None:
    rng = np.random.default_rng(0)
    words = []
    for n in (100, 600, 1500, 2500, 4000):
        members, nonmembers = rng.normal(0.0, 1, n), rng.normal(0, 1, n)
        near, wide = (auroc(members, nonmembers, level=level) for level in (0.90, 0.95))
        tail = certified_tpr(members, nonmembers, TAIL_FPR).upper
        word = auroc_verdict(wide.lower, wide.upper, False, tail).word
        inside = wide.lower <= 0.5 <= wide.upper
        assert (word == "clean") == (is_clean(near.lower, near.upper, tail) and inside)
        words.append(word)
    assert {"clean", "nothing shown"} <= set(words)


def test_coins_leave_the_shift_test_nothing_to_say() -> None:
    assert [admitted(shifted, True) for shifted in (True, None, False)] == [False] * 3
    assert [admitted(shifted, False) for shifted in (True, None, False)] == [True, None, False]


def test_the_visible_effect_is_found_eight_times_in_ten() -> None:
    error = 0.02
    found = gap_verdict(-1.959964 * error, 1.959964 * error, False)
    visible = float(found.why.split()[3])
    # Power of the two-sided normal test at 5%, by its definition.
    power = stats.norm.sf(1.959964 - visible / error) + stats.norm.cdf(-1.959964 - visible / error)
    assert power == pytest.approx(0.8, abs=0.01)
    assert "a gap of" in found.why


def test_a_separated_sample_of_a_few_records_shows_nothing() -> None:
    few = auroc([2.0, 3.0, 4.0], [0.0, 1.0])
    assert (few.value, few.upper) == (1.0, 1.0)
    assert str(auroc_verdict(few.lower, few.upper, False)) == (
        "nothing shown: too few records to see any leak"
    )
    many = auroc(np.arange(100) + 100.0, np.arange(100.0))
    assert auroc_verdict(many.lower, many.upper, False).word == "leaks"
