"""Whether membership and memorization agree, over records and over techniques."""

import json
from collections.abc import Iterator

import pandas as pd

from studies.report.parts import Part, Text, section
from studies.report.sections.memorization import (
    DISAGREEMENT,
    memorization_rows,
    memorization_table,
)
from studies.report.study_data import StudyData

__all__ = ["disagreement"]

_TITLE = "Agreement of membership with memorization, over records and over techniques"
_CAPTION = """\
Membership is that of the attack *{}*. Low agreement is what noise gives: τ and overlaps stand
beside what each measure reaches with itself on other runs, and beside what chance gives. τ compares
membership in one half of the replicates with memorization in the other; what each reaches with
itself is of the same halves."""


@section("disagreement", "Disagreement", "Do membership and memorization agree?")
def disagreement(data: StudyData) -> Iterator[Part]:
    """Yields agreement and disagreement of the two, where both were measured."""
    rows = memorization_rows(data)
    compared = rows[rows["name"].isin(DISAGREEMENT)]
    if len(compared):
        yield from map(Text, _agreement(data, rows))
        yield memorization_table(data, "disagreement", _TITLE, compared)
        yield Text(_CAPTION.format(data.primary_name), "caption")


def _agreement(data: StudyData, rows: pd.DataFrame) -> Iterator[str]:
    tests = rows[rows["metric"] == "crossing_membership"]
    count = data.n_replicates
    if count < 2:
        yield (
            f"Do membership and memorization rank techniques differently? undecided (R = {count})."
        )
        return
    pairs = tests[tests["p_value"] <= 0.05]["params"].map(
        lambda params: "{a} and {b}".format_map(json.loads(params))
    )
    named = ", ".join(dict.fromkeys(pairs)) or "none"
    yield (
        "Pairs of techniques of which one gives more members away and the other memorizes more, "
        f"both beyond their margins (Holm over pairs, R = {count}): {named}."
    )
    unknown = int(tests["p_value"].isna().sum())
    if unknown:
        yield (
            f"Not computable of {unknown} of {len(tests)} pairs: all replicates agree, which "
            "leaves no variance to test with."
        )
