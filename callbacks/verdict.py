"""What an interval and the blind gate allow to be said of an audit: a word and its reason.

The first rule that fits decides; `chance` is the figure's value where nothing leaks.

| Interval | Texts shifted: no | not settled | yes |
| --- | --- | --- | --- |
| above chance | leaks | undecided | undecided |
| below chance | reversed | undecided | undecided |
| contains chance, its 90% form inside 0.5 ± 0.05 (AUROC) | clean | undecided | undecided |
| contains chance | nothing shown | undecided | undecided |

Where the texts alone tell members from non-members, or nobody knows whether they do, an attack may
have measured the texts: a word about the model needs records that were shown to be of one
distribution. "Nothing shown" is no proof of absence; it stands beside the smallest effect that
would have been seen.
"""

import math
from dataclasses import dataclass

from scipy import special, stats

from callbacks.statistics import minimal_detectable_difference

__all__ = ["CLEAN_MARGIN", "RULES", "Verdict", "auroc_verdict", "gap_verdict", "is_clean"]

CLEAN_MARGIN = 0.05
"""Equivalence margin of "clean": the 90% interval of an AUROC lies in 0.5 plus or minus it."""

RULES = (
    "*Leaks*: the interval lies above chance, and the texts were shown not to differ. "
    "*Reversed*: it lies below, as where a model met the non-members. "
    f"*Clean*: the 90% interval of an AUROC lies within 0.5 ± {CLEAN_MARGIN}. *Nothing shown*: the "
    "interval contains chance; beside it the smallest effect that would have been seen 8 times in "
    "10. *Undecided*: the texts alone tell the record sets apart, or nobody knows whether they do. "
    "Each line is judged by itself: of many, some lie beyond chance by luck."
)

_WIDE = float(stats.norm.isf(0.025))
_NARROW = float(stats.norm.isf(0.05))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A word of the rules, and why.

    Attributes:
        word: leaks, reversed, clean, nothing shown or undecided.
        why: The reason, without a full stop.
    """

    word: str
    why: str

    def __str__(self) -> str:
        return f"{self.word}: {self.why}"


def is_clean(lower: float, upper: float) -> bool:
    """Returns whether the 90% interval of an AUROC shows it equivalent to chance.

    Two one-sided tests at 5% (Schuirmann 1987) with the margin `CLEAN_MARGIN`.
    """
    return 0.5 - CLEAN_MARGIN <= lower and upper <= 0.5 + CLEAN_MARGIN


def auroc_verdict(lower: float, upper: float, shifted: bool | None) -> Verdict:
    """Judges an AUROC.

    Args:
        lower: Lower end of the 95% interval on the logit scale.
        upper: Upper end.
        shifted: Whether the texts alone tell members from non-members; None, not settled.

    Example:
        >>> print(auroc_verdict(0.62, 0.74, False))
        leaks: above chance
        >>> print(auroc_verdict(0.46, 0.58, False))
        nothing shown: an AUROC of 0.585 would have been seen
    """
    ends = special.logit([lower, upper])
    if math.isinf(ends[0]) or math.isinf(ends[1]):  # a sample AUROC of 0 or 1
        return _against(0.5, lower, upper, shifted, "too few records to see any leak")
    centre, error = float(ends.mean()), float(ends[1] - ends[0]) / (2.0 * _WIDE)
    near = special.expit([centre - _NARROW * error, centre + _NARROW * error])
    if is_clean(*near) and shifted is False:
        return Verdict("clean", f"90% interval [{near[0]:.3f}, {near[1]:.3f}]")
    visible = float(special.expit(_detectable(error)))
    return _against(0.5, lower, upper, shifted, f"an AUROC of {visible:.3f} would have been seen")


def gap_verdict(lower: float, upper: float, shifted: bool | None) -> Verdict:
    """Judges a figure of members minus the same of non-members.

    Args:
        lower: Lower end of the 95% interval.
        upper: Upper end.
        shifted: Whether the texts alone tell members from non-members; None, not settled.

    Example:
        >>> print(gap_verdict(0.01, 0.03, None))
        undecided: above chance, and the texts are not shown to be of one distribution
    """
    visible = _detectable((upper - lower) / (2.0 * _WIDE))
    return _against(0.0, lower, upper, shifted, f"a gap of {visible:.3f} would have been seen")


def _detectable(error: float) -> float:
    """Returns what a two-sided test at 5% finds 8 times in 10, in the unit of its error."""
    return minimal_detectable_difference(error, math.inf) if error else 0.0


def _against(
    chance: float, lower: float, upper: float, shifted: bool | None, visible: str
) -> Verdict:
    place = "above chance" if lower > chance else "below chance" if upper < chance else "at chance"
    at_chance = lower <= chance <= upper
    if shifted:
        return Verdict("undecided", f"{place}, and the texts alone tell the record sets apart")
    if shifted is None:
        reason = f"{place}, and the texts are not shown to be of one distribution"
        return Verdict("undecided", reason + (f"; were they, {visible}" if at_chance else ""))
    if at_chance:
        return Verdict("nothing shown", visible)
    return Verdict("leaks" if lower > chance else "reversed", place)
