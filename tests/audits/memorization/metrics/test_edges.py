"""What must never count: padding, eos, tokens that a short response does not have."""

from collections import Counter

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from audits.memorization.audit import default_metrics
from audits.memorization.greedy_continuation import GreedyContinuation
from audits.memorization.judging import judge
from audits.memorization.metrics import MemorizationMetric, NearMatch, TokenAccuracy
from audits.scoring.model_access import ModelAccess
from datamodules.encoding import EncodedRecord
from kdmodules.models.network import Network, build_network
from tests.audits.membership.signals.conftest import access_of
from tests.audits.memorization.metrics.test_metrics import continuations_of
from tests.audits.memorization.slow_reference import greedy_texts
from tests.audits.memorization.test_greedy_decoding import only_end, tiny_access
from tests.kdmodules.conftest import TINY

# Those whose number of a record is a share; (n, p)-extraction gives a log-probability.
SHARES = [metric for metric in default_metrics() if metric.scheme is None]


def plain_access(family: str, tokenizer: PreTrainedTokenizerFast) -> ModelAccess:
    """A model that hardly ever ends its texts."""
    model = build_network(Network(family, None, TINY[family]), tokenizer, seed=1)
    return access_of(model.double(), tokenizer)


def ended(
    record_id: str, prompt: tuple[int, ...], text: tuple[int, ...], eos: int
) -> EncodedRecord:
    return EncodedRecord(record_id, "open_qa", prompt, (*text, eos), False, False)


def value_of(metric: MemorizationMetric, continuation: GreedyContinuation) -> float | None:
    judged = judge(metric, "private", [continuation], [continuation.record.record_id])
    return float(judged.values[0]) if len(judged.values) else None


@pytest.mark.parametrize("metric", SHARES, ids=lambda metric: f"{metric.name}-{metric.params}")
def test_a_model_that_only_ends_has_0_under_every_metric(
    metric: MemorizationMetric, tokenizer: PreTrainedTokenizerFast
) -> None:
    access = only_end(tiny_access("gpt2", tokenizer))
    # Padding is what the model writes.
    eos = access.encoder.pad_id = access.encoder.eos_id
    records = [ended(f"r{n}", (5, 6), (40, 41, 42) * n, eos) for n in (1, 4, 11, 20)]
    continuations = continuations_of(access, records, [metric])
    judged = judge(metric, "private", continuations, [record.record_id for record in records])
    assert len(judged.values) > 0
    assert set(judged.values) == {0.0}


def copies(access: ModelAccess, lengths: list[int]) -> list[EncodedRecord]:
    """Records whose responses are the model's own text, cut after so many tokens."""
    starts = [(7, 8, 9, 10 + row) for row in range(len(lengths))]
    texts = greedy_texts(access, starts, lengths)
    return [
        EncodedRecord(f"r{row}", "open_qa", start, tuple(text), False, response_cut=True)
        for row, (start, text) in enumerate(zip(starts, texts, strict=True))
    ]


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33])
def test_short_responses_count_their_own_tokens_alone(
    n: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    """One wrong token of n costs 1 / min(n, 32), whatever lies beside the record in its batch."""
    access = plain_access("opt", tokenizer)
    metric = TokenAccuracy()
    records = copies(access, [n, 40, 5, 40, n, 17])
    record = records[0]
    assert len(record.response_ids) == n
    wrong = (*record.response_ids[:-1], (record.response_ids[-1] + 1) % 300)
    spoilt = EncodedRecord("spoilt", "open_qa", record.prompt_ids, wrong, False, True)
    with_others, alone = (
        continuations_of(access, chosen, [metric])[0]
        for chosen in ([spoilt, *records[1:]], [spoilt])
    )
    expected = 1.0 if n == 33 else 1 - 1 / n
    assert value_of(metric, with_others) == value_of(metric, alone) == pytest.approx(expected)
    whole = continuations_of(access, records, [metric])
    assert [value_of(metric, one) for one in whole] == [1.0] * len(records)


def test_an_early_end_costs_what_it_leaves_out(tokenizer: PreTrainedTokenizerFast) -> None:
    """The model ends after k tokens; the true response goes on."""
    access = plain_access("gpt2", tokenizer)
    draw = torch.Generator().manual_seed(12)
    starts = [tuple(start) for start in torch.randint(300, (200, 4), generator=draw).tolist()]
    texts = greedy_texts(access, starts, [12] * len(starts))
    middles = Counter(token for text in texts for token in set(text[2:11]) - set(text[:2]))
    eos = access.encoder.eos_id = middles.most_common(1)[0][0]
    early = [
        (start, tuple(text[: text.index(eos)]))
        for start, text in zip(starts, texts, strict=True)
        if eos in text[2:11] and eos not in text[:2]
    ]
    assert len(early) > 3
    metric, near = TokenAccuracy(), NearMatch("edit_similarity", fewest_tokens=1)
    for start, text in early:
        filler = (eos + 1) % 300
        longer = ended("r", start, (*text, *[filler] * (20 - len(text))), eos)
        (continuation,) = continuations_of(access, [longer], [metric, near])
        assert value_of(metric, continuation) == pytest.approx(len(text) / 20)
        assert value_of(near, continuation) == pytest.approx(len(text) / 20)
