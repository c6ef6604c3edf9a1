"""C2: how much leaks differs by technique (corrections, items 12 and 13)."""

from itertools import combinations

from audits.statistics import holm
from common.wording import p_value_text
from studies.claims.sample import Sample, untestable
from studies.claims.verdict import ALPHA, Outcome, Verdict

__all__ = ["CONTRAST", "technique_matters"]

CONTRAST = {"minillm": 1.0, "imitkd": -0.5, "seqkd": -0.5}
"""The published order as one figure: MiniLLM leaks least, ImitKD and SeqKD most."""


def technique_matters(sample: Sample, margin: float) -> Outcome:
    """Tests the contrast of MiniLLM against the mean of ImitKD and SeqKD, and the variance.

    Confirmed where the contrast lies below minus the margin and the variance between techniques
    is above 0, both at 5%: an intersection-union test. Refuted where the contrast's lower bound
    lies above minus the margin.

    Args:
        sample: One column per technique; those of `CONTRAST` among them.
        margin: Smallest difference that counts.
    """
    contrast = sample.contrast(CONTRAST)
    equal = sample.p_equal()
    p_value = max(contrast.p_below(-margin), equal)
    if p_value <= ALPHA:
        verdict: Verdict = "confirmed"
        why = f"the contrast lies below −{margin:g}, and techniques differ ({p_value_text(equal)})"
    elif contrast.p_above(-margin) <= ALPHA:
        verdict, why = "refuted", f"the contrast lies above −{margin:g}"
    else:
        verdict = "undecided"
        beyond = contrast.p_below(-margin)
        why = (
            f"contrast beyond −{margin:g}: {p_value_text(beyond)}; "
            f"techniques differ: {p_value_text(equal)}"
        )
    lower, upper = contrast.bounds()
    return Outcome(
        verdict=verdict,
        effect=contrast.value,
        what="MiniLLM minus the mean of ImitKD and SeqKD",
        lower=lower,
        upper=upper,
        p_value=p_value,
        mde=-(margin + contrast.mde()),
        why=why + untestable({"the contrast": contrast}),
        details=_pairs(sample),
    )


def _pairs(sample: Sample) -> tuple[str, ...]:
    """Returns the difference of every pair, with two-sided p-values after Holm."""
    pairs = list(combinations(sample.columns, 2))
    found = [sample.contrast({a: 1.0, b: -1.0}) for a, b in pairs]
    adjusted = holm([one.p_zero() for one in found])
    lines = []
    for (a, b), one, p in zip(pairs, found, adjusted, strict=True):
        tested = f", {p_value_text(p)} (Holm over {len(pairs)} pairs)" if one.testable else ""
        lines.append(f"{a} − {b}: {one.text('+')}{tested}")
    return tuple(lines)
