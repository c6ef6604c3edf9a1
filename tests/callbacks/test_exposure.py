"""Which secrets the exposure audit scores, and the rows that it makes of them."""

import math
from collections import Counter

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from audits.memorization.exposure import Exposure, chance_exposure
from audits.memorization.exposure_audit import MeasuredCanary, exposure_rows
from audits.results import table_from_rows
from callbacks.exposure import ExposureAudit
from common.errors import UserError
from datamodules.batches import RecordEncoder
from datamodules.canaries import CanaryPlan, draw_canaries
from datamodules.prompts import PromptTemplate

TEMPLATE = PromptTemplate("{instruction} {context}:", "{instruction}:")


def encoder_of(tokenizer: PreTrainedTokenizerFast, max_tokens: int = 200) -> RecordEncoder:
    return RecordEncoder(tokenizer, TEMPLATE, max_prompt_tokens=90, max_tokens=max_tokens)


def texts(audit: ExposureAudit, number: int, encoder: RecordEncoder) -> list[str]:
    """Decoded responses that the audit scores for a canary."""
    found = audit.candidates.of(CANARIES[number], encoder)
    ids = [[*found.prefix, *tail] for tail in found.tails]
    decoded = encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text.split(":", 1)[1].strip() for text in decoded]


CANARIES = draw_canaries(CanaryPlan(coin=0, exposure_per_level=4, repetitions=(1, 16)), seed=2)


@pytest.mark.slow
def test_a_small_space_is_scored_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    canary = CANARIES[0]
    found = texts(ExposureAudit(), 0, encoder_of(tokenizer))
    assert canary.format == "code"
    assert found[0] == canary.record().response
    everything = {canary.candidate_response(index) for index in range(canary.secret_space)}
    assert len(found) == 24_000
    assert set(found) == everything


def test_a_large_space_is_sampled_without_the_truth(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = encoder_of(tokenizer)
    for number in (1, 2, 3):
        audit = ExposureAudit(sample_candidates=500)
        found = texts(audit, number, encoder)
        assert found[0] == CANARIES[number].record().response
        assert len(set(found)) == 501
        assert texts(audit, number, encoder) == found
    assert len(texts(ExposureAudit(max_candidates=100), 0, encoder)) == 1001


def test_the_exposure_of_a_whole_space_is_exact() -> None:
    audit = ExposureAudit()
    scores = np.random.default_rng(0).normal(size=24_000)
    found = audit.candidates.exposure(CANARIES[0], scores)
    rank = 1 + int((scores > scores[0]).sum())
    assert found == Exposure(math.log2(24_000) - math.log2(rank), "exact", rank / 24_000)
    assert (
        audit.candidates.exposure(CANARIES[1], scores[:1001]).method == "skew_normal_approximation"
    )


def test_rows_by_repetitions_and_format() -> None:
    measured = [
        MeasuredCanary(
            canary,
            Exposure(
                float(number),
                "exact" if canary.format == "code" else "skew_normal_approximation",
                p_value=0.5,
            ),
            n_tokens=5,
        )
        for number, canary in enumerate(CANARIES)
    ]
    rows = exposure_rows(measured)
    identity = {"run": "r", "role": "teacher", "step": 1}
    assert table_from_rows("results", [identity | dict(row) for row in rows]).num_rows == 18
    own = [{"run": "r", "step": 1, **one.row()} for one in measured]
    assert table_from_rows("memorization", own)["value"].to_pylist() == list(range(8))
    kinds = Counter((row["params"]["format"], row["metric"]) for row in rows)
    assert kinds["all", "exposure"] == kinds["phone", "exposure_chance"] == 2
    whole = next(
        row
        for row in rows
        if row["params"]
        == {"format": "all", "repetitions": 16, "method": "exact+skew_normal_approximation"}
    )
    assert whole["value"] == pytest.approx(np.mean([4, 5, 6, 7]))
    assert whole["n_members"] == 4
    chance = next(row for row in rows if row["metric"] == "exposure_chance")
    assert chance["value"] == chance_exposure(10**8)
    assert chance["params"]["format"] == "account"


def test_mistakes_are_named(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="sample_candidates is 99"):
        ExposureAudit(sample_candidates=99)
    few = ExposureAudit(max_candidates=100, sample_candidates=100)
    with pytest.raises(UserError, match=r"does not fit into data.max_tokens \(95\)"):
        few.candidates.of(CANARIES[0], encoder_of(tokenizer, 95))
