"""C2: how much leaks differs by technique."""

from functools import partial
from itertools import combinations

from audits.statistics import holm
from common.wording import p_value_text
from studies.claims.panel import Panel
from studies.claims.sample import Sample, untestable
from studies.claims.study import (
    EQUAL_UTILITY,
    LAST_CHECKPOINT,
    MARGINS,
    ClaimsData,
    technique_of,
)
from studies.claims.verdict import ALPHA, Outcome, Statement, Verdict, state

CONTRAST = {"minillm": 1.0, "imitkd": -0.5, "seqkd": -0.5}
"""The published order as one figure: MiniLLM leaks least, ImitKD and SeqKD most."""


def technique_statements(data: ClaimsData) -> list[Statement]:
    """Returns C2's: membership at equal utility decides, the rest stands beside it.

    Of one replicate the last checkpoint decides, the only one with an interval over records.
    """
    return [
        _statement(data, measure, where, panel)
        for measure in MARGINS
        for where, panel in (
            (EQUAL_UTILITY, data.matched(measure, technique_of, CONTRAST)),
            (LAST_CHECKPOINT, data.panel(measure, technique_of)),
        )
    ]


def _statement(data: ClaimsData, measure: str, where: str, panel: Panel) -> Statement:
    deciding = LAST_CHECKPOINT if len(panel.replicates) == 1 else EQUAL_UTILITY
    decides = measure == "membership" and where == deciding
    absent = [f"{name} is not in this study" for name in CONTRAST if name not in panel.columns]
    if absent:
        name, complete = f"{data.named(measure)}, {where}", len(panel.complete)
        return state(panel.untested(), name, complete, missing=absent, decides=decides)
    column = technique_of if where == LAST_CHECKPOINT else None
    rule = partial(technique_matters, margin=MARGINS[measure])
    return data.judged(panel, rule, measure, where, column=column, decides=decides)


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
    differences = [sample.contrast({a: 1.0, b: -1.0}) for a, b in pairs]
    adjusted = holm([difference.p_zero() for difference in differences])
    lines = []
    for (a, b), difference, p in zip(pairs, differences, adjusted, strict=True):
        tested = f", {p_value_text(p)} (Holm over {len(pairs)} pairs)"
        lines.append(f"{a} − {b}: {difference.text('+')}{tested if difference.testable else ''}")
    return tuple(lines)
