"""What an interval and the sides' origin allow to be said of an audit: a word and its reason.

The first rule that fits decides; `chance` is the figure's value where nothing leaks.

| Figures | Sides alike: yes | not settled | no |
| --- | --- | --- | --- |
| AUROC above chance, or TPR at 1% FPR above 1% | leaks | undecided | undecided |
| AUROC below chance | reversed | undecided | undecided |
| AUROC inside 0.5 ± 0.05 *and* TPR at 1% FPR at most 3% | clean | undecided | undecided |
| else | nothing shown | undecided | undecided |

Each by its bounds: AUROC by the 95% interval, inside by the 90% one, TPR by certified bounds.
Sides are alike where fair coins dealt them. Where nobody knows how they came about, their texts are
asked: if these alone tell members from non-members, or nobody knows whether they do, an attack may
have measured the texts (`admitted`). "Nothing shown" is no proof of absence; it stands beside the
smallest effect that would have been seen.

An AUROC says little of a few records that are given away whole: with 4% of them it lies at 0.52.
Hence the tail: a leak is looked for in both, each at half of 5%, and clean are only both together.
"""

import math
from dataclasses import dataclass
from functools import cache

from scipy import special, stats

from audits.statistics import minimal_detectable_difference

CLEAN_MARGIN = 0.05
"""Equivalence margin of "clean": the 90% interval of an AUROC lies in 0.5 plus or minus it."""

TAIL_FPR = 0.01
"""False positive rate at which a verdict reads the certified TPR."""

TAIL_METRIC = f"tpr_certified_at_fpr_{TAIL_FPR:g}"
"""Metric of that TPR in the results table; its bounds are those of `statistics.certified_tpr`."""

CLEAN_TPR = 0.03
"""Largest certified TPR of "clean". With e of the members fully exposed it is e + (1 - e)/100."""

RECORDS_FOR_CLEAN = 1400
"""Clusters a side from which a model without a leak is called clean 8 times in 10."""

CLEAN_CAVEAT = "for these attacks; up to 2% of members may be fully exposed"

RULES = (
    "*Leaks*: the AUROC's interval lies above chance, or the certified lower bound of the TPR at "
    "1% FPR above 1%; each errs in 2.5% of models without a leak. *Reversed*: the interval lies "
    "below chance, as where a model met the non-members. "
    f"*Clean*, {CLEAN_CAVEAT}: the 90% interval of the AUROC lies within 0.5 ± {CLEAN_MARGIN}, and "
    f"the certified upper bound of the TPR at 1% FPR is at most {CLEAN_TPR:.0%}; it takes about "
    f"{RECORDS_FOR_CLEAN:,} clusters of records a side to be said of 8 in 10 models without a "
    "leak, and with 600 it is said of 1 in 4. *Nothing shown*: neither; beside it the smallest "
    "effect that would have been seen 8 times in 10. *Undecided*: nobody knows how the sides came "
    "about, and their texts alone tell them apart, or may. "
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


def admitted(shifted: bool | None, dealt_by_coins: bool) -> bool | None:
    """Returns what the shift test has to say in a verdict: nothing where coins dealt the sides.

    Fair coins per cluster make members and non-members exchangeable, so that a classifier of their
    texts measures the luck of the coins, which every interval counts already.

    Args:
        shifted: Whether the texts alone tell members from non-members; None, not settled.
        dealt_by_coins: Whether every cluster fell to its side by a fair coin of its own.

    Returns:
        False where nothing stands against a verdict.
    """
    return False if dealt_by_coins else shifted


def is_clean(lower: float, upper: float, tpr_upper: float | None) -> bool:
    """Returns whether a model is shown to give nothing away, up to the margins.

    Both of two tests at 5%, so that no level has to be shared (Berger 1982): the AUROC is
    equivalent to chance (two one-sided tests, Schuirmann 1987), and the TPR is small.

    Args:
        lower: Lower end of the AUROC's 90% interval.
        upper: Upper end.
        tpr_upper: Certified 95% upper bound of the TPR at 1% FPR; None, not measured.
    """
    equivalent = 0.5 - CLEAN_MARGIN <= lower and upper <= 0.5 + CLEAN_MARGIN
    return equivalent and tpr_upper is not None and tpr_upper <= CLEAN_TPR


def auroc_verdict(
    lower: float,
    upper: float,
    shifted: bool | None,
    tpr_upper: float | None = None,
    *,
    tpr_lower: float | None = None,
) -> Verdict:
    """Judges an AUROC and, where it was measured, the certified TPR at 1% FPR.

    Args:
        lower: Lower end of the 95% interval on the logit scale.
        upper: Upper end.
        shifted: Whether the texts alone tell members from non-members; None, not settled; False
            also where coins dealt the sides (`admitted`).
        tpr_upper: Certified 95% upper bound of the TPR; nothing is clean without it.
        tpr_lower: Certified 97.5% lower bound.

    Example:
        >>> print(auroc_verdict(0.62, 0.74, False))
        leaks: AUROC above chance
        >>> print(auroc_verdict(0.49, 0.51, False, tpr_upper=0.031, tpr_lower=0.016))
        leaks: TPR at 1% FPR at least 0.016
        >>> print(auroc_verdict(0.46, 0.58, False))
        nothing shown: an AUROC of 0.585 would have been seen; about 1,400 clusters a side would \
show a clean model
    """
    tail = tpr_lower is not None and tpr_lower > TAIL_FPR
    found = ["AUROC above chance"] if lower > 0.5 else []
    found += [f"TPR at 1% FPR at least {tpr_lower:.3f}"] if tail else []
    found = found or (["AUROC below chance"] if upper < 0.5 else [])
    word = "leaks" if lower > 0.5 or tail else "reversed" if found else "nothing shown"
    ends = special.logit([lower, upper])
    if math.isinf(ends[0]) or math.isinf(ends[1]):  # a sample AUROC of 0 or 1
        return _gated(word, " and ".join(found), shifted, "too few records to see any leak")
    centre, error = float(ends.mean()), float(ends[1] - ends[0]) / (2.0 * _WIDE)
    near = special.expit([centre - _NARROW * error, centre + _NARROW * error]).tolist()
    if not found and is_clean(near[0], near[1], tpr_upper):
        figures = f"90% interval [{near[0]:.3f}, {near[1]:.3f}], TPR at 1% FPR at most"
        word, found = "clean", [f"{CLEAN_CAVEAT}; {figures} {tpr_upper:.3f}"]
    visible = float(special.expit(_detectable(error)))
    seen = (
        f"an AUROC of {visible:.3f} would have been seen; about {RECORDS_FOR_CLEAN:,} clusters a "
        "side would show a clean model"
    )
    return _gated(word, " and ".join(found), shifted, seen)


def gap_verdict(lower: float, upper: float, shifted: bool | None) -> Verdict:
    """Judges a figure of members minus the same of non-members.

    Args:
        lower: Lower end of the 95% interval.
        upper: Upper end.
        shifted: As in `auroc_verdict`.

    Example:
        >>> print(gap_verdict(0.01, 0.03, None))
        undecided: above chance, and the texts are not shown to be of one distribution
    """
    visible = _detectable((upper - lower) / (2.0 * _WIDE))
    word = "leaks" if lower > 0.0 else "reversed" if upper < 0.0 else "nothing shown"
    place = {"leaks": "above chance", "reversed": "below chance"}.get(word, "")
    return _gated(word, place, shifted, f"a gap of {visible:.3f} would have been seen")


def _detectable(error: float) -> float:
    """Returns what a two-sided test at 5% finds 8 times in 10, in the unit of its error."""
    return error * _errors_to_be_seen()


@cache
def _errors_to_be_seen() -> float:
    """Returns the same in standard errors; a search, and verdicts of a study are hundreds."""
    return minimal_detectable_difference(1.0, math.inf)


def _gated(word: str, found: str, shifted: bool | None, visible: str) -> Verdict:
    """Returns the word, or undecided where the sides may differ for another reason."""
    if shifted is False:
        return Verdict(word, found or visible)
    place = found if word in ("leaks", "reversed") else "at chance"
    if shifted:
        return Verdict("undecided", f"{place}, and the texts alone tell the record sets apart")
    reason = f"{place}, and the texts are not shown to be of one distribution"
    return Verdict(
        "undecided", reason + (f"; were they, {visible}" if place == "at chance" else "")
    )
