"""C1: every technique leaks (corrections, item 13)."""

from collections.abc import Mapping

from audits.statistics import holm
from common.wording import p_value_text
from studies.claims.sample import Sample, untestable
from studies.claims.verdict import ALPHA, Outcome, Verdict

__all__ = ["every_technique_leaks"]


def every_technique_leaks(sample: Sample, floor: float, margin: float) -> Outcome:
    """Tests that every column lies above what a model without a leak has.

    Intersection-union: each column's one-sided test at 5%, without correction, for all of them
    have to reject. Refuted where some column's upper bound lies below the floor plus the margin;
    since one column is enough for that, Holm corrects over columns.

    Args:
        sample: Swap estimates, or excess of token accuracy, by technique.
        floor: What no leak gives: 0.5, or 0.
        margin: Smallest leak that counts.
    """
    found = {name: sample.contrast({name: 1.0}) for name in sample.columns}
    weakest = min(found, key=lambda name: found[name].bounds()[0])
    leaks = {name: one.p_above(floor) for name, one in found.items()}
    small = holm([one.p_below(floor + margin) for one in found.values()])
    below = {name: float(p) for name, p in zip(found, small, strict=True)}
    verdict, why = _verdict(leaks, below, floor, margin)
    lower, upper = found[weakest].bounds()
    return Outcome(
        verdict=verdict,
        effect=found[weakest].value,
        what=f"of the technique with the lowest bound, {weakest}",
        lower=lower,
        upper=upper,
        p_value=max(leaks.values()),
        leaking=tuple(name for name, p in leaks.items() if p <= ALPHA),
        mde=floor + max(found.values(), key=lambda one: one.error).mde(),
        why=why + untestable(found),
        details=tuple(
            f"{name}: {one.text()}" + (f", {p_value_text(leaks[name])}" if one.testable else "")
            for name, one in found.items()
        ),
    )


def _verdict(
    leaks: Mapping[str, float], below: Mapping[str, float], floor: float, margin: float
) -> tuple[Verdict, str]:
    small = [name for name, p in below.items() if p <= ALPHA]
    if max(leaks.values()) <= ALPHA:
        aside = f", though {', '.join(small)} by less than {margin:g}" if small else ""
        return "confirmed", f"each lies above {floor:g}{aside}"
    if small:
        return "refuted", f"{', '.join(small)}: below {floor + margin:g}"
    unclear = [name for name, p in leaks.items() if p > ALPHA]
    return "undecided", f"neither a leak nor its absence is shown of {', '.join(unclear)}"
