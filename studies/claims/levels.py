"""Does a factor with several levels move the risk beyond a margin?

A factor is the objective, the students' data, the task, or the block, with a margin of its own.
"""

from audits.statistics import holm
from studies.claims.sample import Contrast, Sample, largest_contrasts, untestable
from studies.claims.verdict import ALPHA, Outcome, Verdict

Contrasts = dict[tuple[str, str], Contrast]


def factors_matter(samples: dict[str, Sample], margin: float) -> dict[str, Outcome]:
    """Tests every factor, Holm-corrected over those that could be tested.

    Args:
        samples: One column per level, by factor.
        margin: Smallest difference that counts.
    """
    contrasts = {name: largest_contrasts(sample) for name, sample in samples.items()}
    tested = [_p_values(samples[name], contrasts[name], margin) for name in samples]
    adjusted = zip(*(holm(p_values) for p_values in zip(*tested, strict=True)), strict=True)
    return {
        name: _test(samples[name], contrasts[name], margin, both, len(samples))
        for name, both in zip(samples, adjusted, strict=True)
    }


def levels_differ(sample: Sample, margin: float) -> Outcome:
    """Tests a single factor.

    Confirmed where the variance component is above 0 (F test with Box's degrees of freedom) and the
    largest difference of two levels lies above the margin: over all ordered pairs, Bonferroni.
    Refuted where every difference of two levels lies below the margin, each at 5%: an
    intersection-union test. Without a variance nothing is decided. The bounds of the
    largest difference are those of the two rules: its own after Bonferroni below, the highest of
    all differences' own above.

    Args:
        sample: One column per level.
        margin: Smallest difference that counts.
    """
    return factors_matter({"": sample}, margin)[""]


def _p_values(sample: Sample, contrasts: Contrasts, margin: float) -> tuple[float, float]:
    """Returns the p-values of "no effect" and of "an effect beyond the margin"."""
    every = contrasts.values()
    beyond = min(1.0, len(every) * min(contrast.p_above(margin) for contrast in every))
    return max(beyond, sample.p_equal()), max(contrast.p_below(margin) for contrast in every)


def _test(
    sample: Sample,
    contrasts: Contrasts,
    margin: float,
    p_values: tuple[float, float],
    factors: int,
) -> Outcome:
    confirm, refute = p_values
    share = ALPHA / len(contrasts)
    (high, low), largest = next(iter(contrasts.items()))
    if confirm <= ALPHA:
        verdict: Verdict = "confirmed"
        why = f"the largest difference lies above {margin:g}, and levels differ"
    elif refute <= ALPHA:
        verdict, why = "refuted", f"no difference of two levels reaches {margin:g}"
    else:
        verdict = "undecided"
        why = f"no difference is shown to exceed {margin:g}, nor all to lie below it"
    return Outcome(
        verdict=verdict,
        effect=largest.value,
        what=f"largest difference of two levels, {high} − {low}",
        lower=largest.bounds(share)[0],
        upper=max(one.bounds()[1] for one in contrasts.values()),
        p_value=float(confirm),
        mde=margin + max(contrasts.values(), key=lambda one: one.error).mde(share / factors),
        why=why + untestable({f"{a} − {b}": one for (a, b), one in contrasts.items() if a < b}),
        details=tuple(f"{name}: {sample.contrast({name: 1.0}).text()}" for name in sample.columns),
    )
