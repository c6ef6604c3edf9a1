"""C4: membership and memorization disagree about techniques (corrections, items 13 and 14)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from audits.statistics import holm
from audits.statistics.agreement import crossings, ranking_agreement
from common.wording import p_value_text
from studies.claims.sample import Contrast, Sample, untestable
from studies.claims.verdict import ALPHA, MEMBERSHIP_MARGIN, MEMORIZATION_MARGIN, Outcome, Verdict

__all__ = ["measures_disagree"]


def measures_disagree(membership: Sample, memorization: Sample) -> Outcome:
    """Tests every pair of techniques for a crossing.

    A pair crosses where one technique has more membership and the other more memorization, each by
    more than its margin: intersection-union within a pair, both ways round, Holm over pairs.
    Refuted where of every pair, either way round, one of the two differences is shown to lie below
    its margin (Bonferroni over the two).

    Args:
        membership: One column per technique.
        memorization: The same techniques in the same order, and the same replicates.
    """
    pairs = [
        _Pair(
            a, b, membership.contrast({a: 1.0, b: -1.0}), memorization.contrast({a: 1.0, b: -1.0})
        )
        for a, b in combinations(membership.columns, 2)
    ]
    p_values = _p_values(membership, memorization, pairs)
    place = min(range(len(pairs)), key=lambda i: (p_values[i], -abs(pairs[i].membership.value)))
    pair, tests = pairs[place], 2 * len(pairs)
    verdict, why = _verdict(p_values[place], max(_p_none(one) for one in pairs), pair)
    lower, upper = pair.membership.bounds()
    mde = pair.memorization.mde(ALPHA / tests) + MEMORIZATION_MARGIN
    own = f"memorization of {pair.name}: {pair.memorization.text('+')}"
    own += f"; smallest visible {mde:.3f}" if pair.memorization.testable else ""
    return Outcome(
        verdict=verdict,
        effect=pair.membership.value,
        what=f"membership of {pair.name}, the pair nearest to a crossing",
        lower=lower,
        upper=upper,
        p_value=p_values[place],
        mde=pair.membership.mde(ALPHA / tests) + MEMBERSHIP_MARGIN,
        why=why
        + untestable({f"membership of {one.name}": one.membership for one in pairs})
        + untestable({f"memorization of {one.name}": one.memorization for one in pairs}),
        details=(own, *_rankings(membership, memorization), *_lines(pairs, p_values)),
    )


@dataclass(frozen=True)
class _Pair:
    a: str
    b: str
    membership: Contrast
    memorization: Contrast

    @property
    def name(self) -> str:
        return f"{self.a} − {self.b}"


def _p_values(membership: Sample, memorization: Sample, pairs: Sequence[_Pair]) -> list[float]:
    """Returns the p-value of "no crossing" of every pair, adjusted over pairs."""
    if membership.values is None or memorization.values is None:
        ways = [
            min(
                max(one.membership.p_above(MEMBERSHIP_MARGIN), y.p_above(MEMORIZATION_MARGIN)),
                max(x.p_above(MEMBERSHIP_MARGIN), one.memorization.p_above(MEMORIZATION_MARGIN)),
            )
            for one in pairs
            for x, y in [(_reversed(one.membership), _reversed(one.memorization))]
        ]
        return [float(p) for p in holm([min(1.0, 2.0 * p) for p in ways])]
    margins = (MEMBERSHIP_MARGIN, MEMORIZATION_MARGIN)
    found = crossings(membership.values, memorization.values, *margins)
    return [1.0 if one.p_value is None else one.p_value for one in found]


def _verdict(p_value: float, p_none: float, pair: _Pair) -> tuple[Verdict, str]:
    if p_value <= ALPHA:
        return "confirmed", f"{pair.a} and {pair.b} cross beyond both margins"
    if p_none <= ALPHA:
        return "refuted", "no pair crosses beyond both margins"
    return "undecided", "no pair is shown to cross, nor all of them not to"


def _p_none(pair: _Pair) -> float:
    """Returns the p-value of "this pair crosses", either way round."""
    x, y = pair.membership, pair.memorization
    ways = [
        min(one.p_below(MEMBERSHIP_MARGIN), other.p_below(MEMORIZATION_MARGIN))
        for one, other in ((x, _reversed(y)), (_reversed(x), y))
    ]
    return min(1.0, 2.0 * max(ways))


def _reversed(one: Contrast) -> Contrast:
    return Contrast(-one.value, one.error, one.df)


def _rankings(membership: Sample, memorization: Sample) -> list[str]:
    if membership.values is None or memorization.values is None:
        return []
    found = ranking_agreement(membership.values, memorization.values)
    tau, *ceilings = (
        "not measurable" if one is None else f"{one:.2f}"
        for one in (found.tau, found.membership_ceiling, found.memorization_ceiling)
    )
    return [
        f"Kendall's tau of the two rankings, between halves of the replicates: {tau}; of "
        f"membership with itself {ceilings[0]}, of memorization {ceilings[1]}"
    ]


def _lines(pairs: Sequence[_Pair], p_values: Sequence[float]) -> list[str]:
    return [
        f"{one.name}: membership {one.membership.text('+')}, memorization "
        f"{one.memorization.text('+')}, {p_value_text(p)} (Holm over {len(pairs)} pairs)"
        for one, p in zip(pairs, p_values, strict=True)
    ]
