"""Overlaps of continuations equal records that are continued and compared one at a time."""

import math
import zlib
from dataclasses import replace

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.membership.signals import ContinuationOverlap
from audits.membership.signals.continuations import rouge_1_recall
from audits.scoring.model_access import ModelAccess
from datamodules.records import InstructionRecord
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import SamplingSettings, generate
from tests.audits.membership.signals.conftest import CountedRecords, Planted, access_of
from tests.kdmodules.conftest import one_family

Model = PreTrainedModel
Tokenizer = PreTrainedTokenizerFast
Records = list[InstructionRecord]
SIGNAL = ContinuationOverlap(samples=3, temperature=1.0, top_k=50)


def measured(access: ModelAccess, records: Records) -> torch.Tensor:
    return SIGNAL.measure(access, access.encoder.encode_all(records))


def naive(access: ModelAccess, records: Records) -> torch.Tensor:
    """One record and one sample at a time, words by rouge_score, characters where it knows none."""
    rows = []
    tokenizer, eos_id = access.encoder.tokenizer, access.encoder.eos_id
    for one in access.encoder.encode_all(records):
        ids = [token for token in one.response_ids if token != eos_id]
        cut = len(ids) // 2
        reference = tokenizer.decode(ids[cut:]).replace("\ufffd", "")
        row = []
        for draw in range(3):
            settings = SamplingSettings(max_new_tokens=len(ids) - cut, top_k=50)
            scope = RandomScope(access.seed, "samia", draw=draw)
            prompt = [*one.prompt_ids, *ids[:cut]]
            (sample,) = generate(
                access.lm.model, [prompt], [one.record_id], settings, access.vocabulary, scope
            )
            kept = [token for token in sample.token_ids if token != eos_id]
            text = tokenizer.decode(kept).replace("\ufffd", "")
            recall = rouge_1_recall(reference, text) if cut and reference.strip() else math.nan
            row.append(recall * len(zlib.compress(text.encode())))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def test_equals_one_record_at_a_time(
    family_model: Model, tokenizer: Tokenizer, records: Records, planted: Planted
) -> None:
    access = access_of(family_model, tokenizer)
    found = measured(access, records)
    torch.testing.assert_close(found, naive(access, records), equal_nan=True, rtol=0, atol=0)
    undefined = found.isnan()
    assert undefined.all(dim=1).tolist() == undefined.any(dim=1).tolist()
    assert undefined[1].all(), "a response of one token has no two halves"
    some = planted.members[:6]
    learnt = measured(planted.access, some)
    assert learnt.mean() > 3
    torch.testing.assert_close(learnt, naive(planted.access, some), rtol=0, atol=0)


@one_family
def test_batches_and_order_change_nothing(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    found = measured(access_of(family_model, tokenizer), records)
    for batch_size in (1, 3):
        other = measured(access_of(family_model, tokenizer, batch_size), records[::-1]).flip(0)
        torch.testing.assert_close(other, found, equal_nan=True, rtol=0, atol=0)


def test_few_records_are_in_memory_at_once(
    monkeypatch: pytest.MonkeyPatch, planted: Planted
) -> None:
    monkeypatch.setattr("audits.membership.signals.continuations.SHARD_RECORDS", 6)
    access = replace(planted.access, batch_size=6)
    records = planted.members
    encoded = CountedRecords(access.encoder.encode_all(records))
    found = SIGNAL.measure(access, encoded)
    torch.testing.assert_close(found, measured(planted.access, records), rtol=0, atol=0)
    # Records and starts of a shard are let go while those of the next one are made.
    assert encoded.tally.most <= 4 * 6 < len(records)


@one_family
def test_a_full_window_is_enough_for_every_record(
    family_model: Model, tokenizer: Tokenizer
) -> None:
    texts = [("the cat", "the mat " * 100), ("the cat sat on the mat " * 20, "on the mat " * 30)]
    records = [
        InstructionRecord(f"r{i}", prompt, "", response, "open_qa", "test")
        for i, (prompt, response) in enumerate(texts)
    ]
    access = access_of(family_model, tokenizer)
    encoded = access.encoder.encode_all(records)
    assert all(one.response_cut and len(one) == 128 for one in encoded)
    torch.testing.assert_close(measured(access, records), naive(access, records), rtol=0, atol=0)


def test_samples_are_keyed_by_seed_record_and_draw(planted: Planted) -> None:
    found = measured(planted.untrained, planted.members)
    other = measured(replace(planted.untrained, seed=1), planted.members)
    assert not torch.equal(found, other)
    assert not torch.equal(found[:, 0], found[:, 1])


def test_recall_equals_rouge_score_on_ascii() -> None:
    scorer = RougeScorer(["rouge1"])
    texts = ["the cat and the dog", "The cat!", "a b c a b a", "dogs, cats; 3.14", "the the the"]
    for reference in texts:
        for candidate in texts:
            expected = scorer.score(reference, candidate)["rouge1"].recall
            assert rouge_1_recall(reference, candidate) == pytest.approx(expected, abs=1e-12)


def test_recall_in_any_script() -> None:
    assert rouge_1_recall("世界世界", "世世世") == 0.5
    assert rouge_1_recall("naïve 🙂", "🙂") == 0.5
    assert rouge_1_recall("?! ?", "? ?") == pytest.approx(2 / 3)
    assert rouge_1_recall("cat", "") == 0.0


def test_cost_and_name() -> None:
    assert SIGNAL.passes == 3.0
    assert SIGNAL.label == "3 continuations, T 1, top-k 50"
