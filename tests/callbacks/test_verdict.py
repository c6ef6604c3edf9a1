"""Verdicts: the table of rules, the equivalence rule against its scores, the effect visible."""

import numpy as np
import pytest
from scipy import stats

from callbacks.statistics import auroc
from callbacks.verdict import auroc_verdict, gap_verdict, is_clean


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        (0.55, 0.75, ("leaks", "undecided", "undecided")),
        (0.25, 0.45, ("reversed", "undecided", "undecided")),
        (0.47, 0.53, ("clean", "undecided", "undecided")),
        (0.42, 0.58, ("nothing shown", "undecided", "undecided")),
        (0.50, 0.58, ("nothing shown", "undecided", "undecided")),
    ],
)
def test_the_interval_and_the_gate_decide_together(
    lower: float, upper: float, words: tuple[str, str, str]
) -> None:
    found = [auroc_verdict(lower, upper, shifted).word for shifted in (False, None, True)]
    assert tuple(found) == words


def test_no_verdict_is_clean_where_the_90_percent_interval_of_the_scores_is_not() -> None:
    rng = np.random.default_rng(0)
    words = []
    for n in (100, 600, 900, 1500, 2500):
        members, nonmembers = rng.normal(0.02, 1, n), rng.normal(0, 1, n)
        near, wide = (auroc(members, nonmembers, level=level) for level in (0.90, 0.95))
        word = auroc_verdict(wide.lower, wide.upper, False).word
        assert (word == "clean") == is_clean(near.lower, near.upper)
        words.append(word)
    assert {"clean", "nothing shown"} <= set(words)


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
