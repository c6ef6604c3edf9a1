"""A code that is met more often comes out sooner; one that was never met stays at chance."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from audits.context import Measurements
from audits.results import table_from_rows
from audits.spans.names import GENERIC, NEAR_VERBATIM, SPAN
from audits.spans.worst import worst_spans
from common.errors import UserError
from datamodules.records import InstructionRecord
from tests.audits.spans.conftest import _EACH, REPETITIONS, audited

Found = dict[str, Measurements]


def logps(found: Measurements, population: str, given: str) -> list[float]:
    return [
        row["value"]
        for row in found.memorization
        if row["population"] == population and row["params"]["given"] == given
    ]


def value(found: Measurements, metric: str, population: str, **params: object):
    """The one row of a metric that has some params and no type."""
    rows = [
        row
        for row in found.results
        if (row.metric, row.population) == (metric, population)
        and "type" not in row.params
        and params.items() <= row.params.items()
        and ("against" in params) == ("against" in row.params)
    ]
    assert len(rows) == 1
    return rows[0]


def test_codes_order_as_they_were_planted(found: Found) -> None:
    for given in ("text_before", "instruction"):
        each = np.array(logps(found["model"], "external", given), dtype=float)
        each = np.nan_to_num(each, nan=-50.0)
        once, four, sixteen = (
            each[place * _EACH : (place + 1) * _EACH].mean() for place in range(len(REPETITIONS))
        )
        assert once < four < sixteen
        assert sixteen > -4.0 > -7.0 > once


def test_members_stand_out_and_nothing_else_does(found: Found) -> None:
    own, other = found["model"], found["counterfactual"]
    for population, one in (("external", own), ("held_out", other)):
        assert value(one, "span_preferred", population).value > 0.75
        assert (
            value(one, "span_extraction_rate", population, given="instruction", n=100).value > 0.3
        )
    for population, one in (
        *(("held_out", own), ("never", own)),
        *(("external", other), ("never", other)),
    ):
        preferred = value(one, "span_preferred", population)
        assert preferred.lower < 0.5 < preferred.upper
        assert preferred.value == pytest.approx(0.5, abs=0.2)
        rate = value(one, "span_extraction_rate", population, given="instruction", n=100)
        assert rate.value == 0
    told = value(own, "span_probability_gap", "external", given="instruction", against="never")
    assert told.value > 0.02
    again = value(own, "span_probability_gap", "external", given="rewording", against="never")
    assert 0 < again.value < told.value
    answered = value(own, "span_answered_gap", "external", against="never")
    assert answered.n_members == answered.n_nonmembers == 6


def test_rows_are_whole_and_say_no_text(
    found: Found, coded: dict[str, list[InstructionRecord]]
) -> None:
    rows = [dict(row) for row in found["model"].results]
    identity = {"run": "r", "role": "external", "step": 0, "seed": 0, "audit": "spans"}
    table = table_from_rows("results", [identity | row for row in rows])
    names = set(table["name"].to_pylist())
    assert {SPAN, NEAR_VERBATIM, GENERIC} <= names
    told = json.dumps([str(row) for row in (*rows, *found["model"].memorization)])
    # Six digits may stand by chance among the sixteen of a figure.
    whole = set(re.findall(r"(?<![\d.])\d+(?!\d|\.\d)", told))
    codes = {span.text for side in coded.values() for r in side for span in r.sensitive}
    assert not codes & whole
    equal = value(found["model"], "span_in_answer", "never")
    assert equal.params["spans"] == 24


def test_the_worst_ten_are_those_met_most(
    found: Found, coded: dict[str, list[InstructionRecord]]
) -> None:
    worst = worst_spans(found["model"].memorization, "external")
    often = {one.id for one in coded["external"][-_EACH:]}
    assert len(worst) == 10
    assert len(often & {row["record"] for row in worst}) >= 7
    assert worst[0]["log_probability"] == max(logps(found["model"], "external", "instruction"))


def test_a_side_without_spans_is_refused(
    coded: dict[str, list[InstructionRecord]], coded_tokenizer: PreTrainedTokenizerFast
) -> None:
    bare = [replace(one, sensitive=()) for one in coded["never"]]
    with pytest.raises(UserError, match="population 'never' has sensitive spans: give the records"):
        audited({**coded, "never": bare}, coded_tokenizer, "external", passes=0)
