"""C4: membership and memorization disagree about techniques."""

from collections.abc import Collection, Sequence
from itertools import combinations

from audits.statistics import holm
from audits.statistics.agreement import crossings, ranking_agreement
from common.wording import p_value_text
from studies.claims.panel import Panel
from studies.claims.sample import Contrast, Sample, untestable
from studies.claims.study import (
    EQUAL_UTILITY,
    LAST_CHECKPOINT,
    MARGINS,
    ClaimsData,
    technique_of,
)
from studies.claims.verdict import (
    ALPHA,
    MEMBERSHIP_MARGIN,
    MEMORIZATION_MARGIN,
    Outcome,
    Statement,
    Verdict,
    state,
)


def crossing_statements(data: ClaimsData) -> list[Statement]:
    """Returns C4's: the last checkpoint decides, equal utility stands beside it."""
    last = [data.panel(measure, technique_of) for measure in MARGINS]
    matched = [data.matched(measure, technique_of, ()) for measure in MARGINS]
    return [
        _statement(data, *last, where=LAST_CHECKPOINT),
        _statement(data, *matched, where=EQUAL_UTILITY),
    ]


def _statement(data: ClaimsData, x: Panel, y: Panel, *, where: str) -> Statement:
    columns = [name for name in x.columns if name in y.columns]
    x, y = x.restricted(columns), y.restricted(columns)
    common = sorted(set(x.complete) & set(y.complete))
    samples, records = [panel.sample(common) for panel in (x, y)], ""
    decides = where == LAST_CHECKPOINT
    if len(common) == 1 and decides:
        both = zip(MARGINS, (x, y), strict=True)
        found = [data.sample(measure, panel, technique_of) for measure, panel in both]
        samples = [one and one[0] for one in found]
        records = " and ".join(one[1] for one in found if one) if all(found) else ""
    missing = list(dict.fromkeys([*x.missing, *y.missing]))
    if len(columns) < 2:
        missing.append("there is no second technique")
    outcome, (membership, memorization) = x.untested(), samples
    if membership is not None and memorization is not None and len(columns) > 1:
        outcome = measures_disagree(membership, memorization)
    return state(
        outcome,
        f"{' and '.join(data.named(measure) for measure in MARGINS)}, {where}",
        len(common),
        records=records,
        missing=missing,
        shift_excluded=x.shift_excluded,
        left_out=x.left_out,
        decides=decides,
    )


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
    measures = (membership, memorization)
    pairs = {
        (a, b): [sample.contrast({a: 1.0, b: -1.0}) for sample in measures]
        for a, b in combinations(membership.columns, 2)
    }
    names = {(a, b): f"{a} − {b}" for a, b in pairs}
    p_values = dict(zip(pairs, _p_values(membership, memorization, pairs.values()), strict=True))
    nearest = min(pairs, key=lambda pair: (p_values[pair], -abs(pairs[pair][0].value)))
    (x, y), tests = pairs[nearest], 2 * len(pairs)
    if p_values[nearest] <= ALPHA:
        verdict: Verdict = "confirmed"
        why = f"{' and '.join(nearest)} cross beyond both margins"
    elif max(_p_crosses(*pair) for pair in pairs.values()) <= ALPHA:
        verdict, why = "refuted", "no pair crosses beyond both margins"
    else:
        verdict, why = "undecided", "no pair is shown to cross, nor all of them not to"
    for measure, number in (("membership", 0), ("memorization", 1)):
        why += untestable({f"{measure} of {names[pair]}": pairs[pair][number] for pair in pairs})
    visible = y.mde(ALPHA / tests) + MEMORIZATION_MARGIN
    nearest_line = f"memorization of {names[nearest]}: {y.text('+')}"
    nearest_line += f"; smallest visible {visible:.3f}" if y.testable else ""
    lines = [
        f"{names[pair]}: membership {pairs[pair][0].text('+')}, memorization "
        f"{pairs[pair][1].text('+')}, {p_value_text(p)} (Holm over {len(pairs)} pairs)"
        for pair, p in p_values.items()
    ]
    lower, upper = x.bounds()
    return Outcome(
        verdict=verdict,
        effect=x.value,
        what=f"membership of {names[nearest]}, the pair nearest to a crossing",
        lower=lower,
        upper=upper,
        p_value=p_values[nearest],
        mde=x.mde(ALPHA / tests) + MEMBERSHIP_MARGIN,
        why=why,
        details=(nearest_line, *_rankings(membership, memorization), *lines),
    )


def _p_values(
    membership: Sample, memorization: Sample, pairs: Collection[Sequence[Contrast]]
) -> list[float]:
    """Returns the p-value of "no crossing" of every pair, adjusted over pairs."""
    margins = (MEMBERSHIP_MARGIN, MEMORIZATION_MARGIN)
    if membership.values is not None and memorization.values is not None:
        tested = crossings(membership.values, memorization.values, *margins)
        return [1.0 if pair.p_value is None else pair.p_value for pair in tested]
    ways = [
        min(
            max(x.p_above(margins[0]), y.p_below(-margins[1])),
            max(x.p_below(-margins[0]), y.p_above(margins[1])),
        )
        for x, y in pairs
    ]
    return [float(p) for p in holm([min(1.0, 2.0 * p) for p in ways])]


def _p_crosses(x: Contrast, y: Contrast) -> float:
    """Returns the p-value of "this pair crosses", either way round."""
    one_way = min(x.p_below(MEMBERSHIP_MARGIN), y.p_above(-MEMORIZATION_MARGIN))
    other_way = min(x.p_above(-MEMBERSHIP_MARGIN), y.p_below(MEMORIZATION_MARGIN))
    return min(1.0, 2.0 * max(one_way, other_way))


def _rankings(membership: Sample, memorization: Sample) -> list[str]:
    if membership.values is None or memorization.values is None:
        return []
    agreement = ranking_agreement(membership.values, memorization.values)
    tau, *ceilings = (
        "not measurable" if figure is None else f"{figure:.2f}"
        for figure in (
            agreement.tau,
            agreement.membership_ceiling,
            agreement.memorization_ceiling,
        )
    )
    return [
        f"Kendall's tau of the two rankings, between halves of the replicates: {tau}; of "
        f"membership with itself {ceilings[0]}, of memorization {ceilings[1]}"
    ]
