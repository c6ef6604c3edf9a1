"""Whether membership and memorization agree, over records and over techniques."""

import json
from collections.abc import Iterator

import pandas as pd

from common.prose import prose
from studies.report.parts import Part, Text, section
from studies.report.sections.memorization import (
    DISAGREEMENT,
    memorization_rows,
    memorization_table,
)
from studies.report.study_data import StudyData

_SAYS = prose(__file__)


@section("disagreement", "Do membership and memorization agree?")
def disagreement(data: StudyData) -> Iterator[Part]:
    """Yields agreement and disagreement of the two, where both were measured."""
    rows = memorization_rows(data)
    compared = rows[rows["name"].isin(DISAGREEMENT)]
    if len(compared):
        yield from map(Text, _agreement(data, rows))
        yield memorization_table(data, "disagreement", _SAYS["title"], compared)
        yield Text(_SAYS["caption"].format(data.primary_name), "caption")


def _agreement(data: StudyData, rows: pd.DataFrame) -> Iterator[str]:
    tests = rows[rows["metric"] == "crossing_membership"]
    count = data.n_replicates
    if count < 2:
        yield _SAYS["undecided"].format(count=count)
        return
    pairs = tests[tests["p_value"] <= 0.05]["params"].map(
        lambda params: "{a} and {b}".format_map(json.loads(params))
    )
    named = ", ".join(dict.fromkeys(pairs)) or "none"
    yield _SAYS["crossing"].format(count=count, named=named)
    unknown = int(tests["p_value"].isna().sum())
    if unknown:
        yield _SAYS["unknown"].format(unknown=unknown, pairs=len(tests))
