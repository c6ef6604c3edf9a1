"""Rows count what they should, a planted leak shows in them, and a clean model shows none."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from audits.memorization.audit import default_metrics
from audits.memorization.curves import curves, extraction_figures
from audits.memorization.greedy_decoding import continue_greedily
from audits.memorization.judging import Judged, judge
from audits.memorization.metrics import (
    ExactMatch,
    ExtractionStrength,
    MemorizationMetric,
    NPExtraction,
    TokenAccuracy,
)
from audits.memorization.rows import gap_rows, population_rows, record_rows
from audits.results import Row, table_from_rows
from audits.scoring.model_access import ModelAccess
from datamodules.batches import collate
from datamodules.records import InstructionRecord
from kdmodules.token_means import supervised_sums
from tests.audits.membership.signals.conftest import Planted, planted

__all__ = ["planted"]

Rows = list[Row]
IDENTITY = {"run": "r", "role": "teacher", "step": 1, "audit": "memorization"}


def judged_values(
    metric: MemorizationMetric, population: str, values: list[float], lengths: list[int]
) -> Judged:
    n = len(values)
    return Judged(
        metric,
        population,
        [f"{population}-{row}" for row in range(n)],
        ["open_qa" if row % 2 else "generation" for row in range(n)],
        list(range(n)),
        np.array(lengths),
        np.array(values),
        skipped=3,
    )


def of(rows: Rows, metric: str, task: str | None = None, **params: object) -> Row:
    """The only row of a metric with these params beside the metric's own."""
    kinds = ("length", "n", "p", "against")
    found = [
        row
        for row in rows
        if row["metric"] == metric
        and row["task"] == task
        and isinstance(row["params"], dict)
        and {name: row["params"][name] for name in kinds if name in row["params"]} == params
    ]
    assert len(found) == 1, (metric, task, params, len(found))
    return found[0]


def test_slices_of_a_population() -> None:
    lengths = [32, 32, 31, 8, 1, 7]
    judged = judged_values(TokenAccuracy(), "private", [1.0, 0.5, 0.25, 1.0, 0.0, 0.5], lengths)
    rows = population_rows(judged, "n_members")
    assert of(rows, "token_accuracy")["value"] == pytest.approx(3.25 / 6)
    assert of(rows, "token_accuracy", length="32+")["value"] == 0.75
    assert of(rows, "token_accuracy", length="16-31")["n_members"] == 1
    assert of(rows, "token_accuracy", length="8-15")["value"] == 1.0
    assert of(rows, "token_accuracy", length="1-7")["value"] == 0.25
    assert of(rows, "token_accuracy", task="open_qa")["value"] == pytest.approx(2.0 / 3)
    assert {row["skipped"] for row in rows} == {3}
    none = population_rows(judged_values(ExactMatch(), "never", [1.0], [10]), "n_nonmembers")
    empty = of(none, "exact_match_rate", length="50+")
    assert empty["n_nonmembers"] == 0
    assert empty.get("value") is None
    table_from_rows("results", [{**IDENTITY, **row} for row in rows + none])


def test_gaps_are_signed_and_name_the_other_side() -> None:
    inside = judged_values(ExtractionStrength(), "private", [0.2, 0.4, 0.6, 0.4], [20] * 4)
    outside = judged_values(ExtractionStrength(), "never", [0.5, 0.7, 0.5], [20] * 3)
    rows = gap_rows(inside, outside)
    row = of(rows, "extraction_strength_gap", against="never")
    assert row["value"] == pytest.approx(0.4 - 1.7 / 3)
    assert (row["n_members"], row["n_nonmembers"], row["skipped"]) == (4, 3, 6)
    table_from_rows("results", [{**IDENTITY, **row} for row in rows])


def test_records_never_drawn_are_null_and_figures_hold_numbers() -> None:
    judged = judged_values(NPExtraction(), "private", [-math.inf, math.log(0.5)], [50, 12])
    records = record_rows(judged)
    assert [row["value"] for row in records] == [None, math.log(0.5)]
    table_from_rows("memorization", [{"run": "r", "step": 1, **row} for row in records])
    rows = population_rows(judged, "n_members")
    assert of(rows, "extraction_rate", p=0.5, n=1)["value"] == 0.5
    assert of(rows, "extraction_rate", p=0.9, n=1)["value"] == 0.0
    assert of(rows, "extraction_probability")["value"] == 0.25
    ((tag, figure),) = extraction_figures(rows).items()
    assert tag == "memorization/n_p_extraction"
    assert len(figure.axes[0].lines) == 3
    assert not curves(rows), "a population's own figures stand in the table, but for token accuracy"


def test_curves_of_all_metrics_have_their_own_tags() -> None:
    metrics = default_metrics()
    private, held_out, never = (
        [judged_values(metric, name, [0.0, 1.0], [40, 20]) for metric in metrics]
        for name in ("private", "held_out", "never")
    )
    rows = [row for one in private for row in population_rows(one, "n_members")]
    for others in (held_out, never):
        rows += [row for one in others for row in population_rows(one, "n_nonmembers")]
        rows += [row for pair in zip(private, others, strict=True) for row in gap_rows(*pair)]
    tags = curves(rows)
    # Three of token accuracy, a gap of every metric, and one against records that nobody met.
    assert len(tags) == 3 + len(metrics) + 1
    assert "memorization/private/token_accuracy" in tags
    assert "memorization/private/token_accuracy_gap/against_never" in tags
    assert "memorization/private/exact_match_rate_gap/prefix_tokens_10/against_held_out" in tags


def gaps_of(access: ModelAccess, planted: Planted) -> dict[str, Row]:
    metrics = [TokenAccuracy(), ExtractionStrength(), ExactMatch(4, 6, 3), NPExtraction(4, 6, 3)]

    def judged(name: str, records: list[InstructionRecord]) -> list[Judged]:
        encoded = access.encoder.encode_all(records)
        schemes = [metric.scheme for metric in metrics if metric.scheme is not None]
        with torch.no_grad():
            continuations = continue_greedily(access, encoded, metrics[0].requests, schemes)
        clusters = [record.id for record in records]
        return [judge(metric, name, continuations, clusters) for metric in metrics]

    pairs = zip(
        judged("private", planted.members), judged("held_out", planted.nonmembers), strict=True
    )
    rows = [row for pair in pairs for row in gap_rows(*pair)]
    names = ("token_accuracy", "extraction_strength", "exact_match_rate", "extraction_probability")
    return {name: of(rows, f"{name}_gap", against="held_out") for name in names}


@pytest.fixture(scope="module")
def memorized(planted: Planted) -> Planted:
    """The planted leak, trained on until every member is known by heart."""
    lm = copy.deepcopy(planted.access.lm)
    access = replace(planted.access, lm=lm)
    batch = collate(access.encoder.encode_all(planted.members), access.encoder.pad_id)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=4e-3)
    for _ in range(120):
        sums = supervised_sums(lm, batch)
        optimizer.zero_grad()
        (sums["loss"] / sums["tokens"]).backward()
        optimizer.step()
    return replace(planted, access=access)


def test_a_planted_leak_is_found_and_a_clean_model_is_not_accused(memorized: Planted) -> None:
    for name, row in gaps_of(memorized.access, memorized).items():
        assert row["value"] > 0.9, (name, row)
        assert row["lower"] > 0.7, (name, row)
    for name, row in gaps_of(memorized.untrained, memorized).items():
        assert row["lower"] <= 0 <= row["upper"], (name, row)
        assert row["value"] == pytest.approx(0, abs=0.01)
