"""Every metric equals a loop that generates token by token and compares lists."""

import math
from collections.abc import Sequence

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from transformers import PreTrainedTokenizerFast

from audits.memorization.greedy_continuation import GreedyContinuation
from audits.memorization.greedy_decoding import continue_greedily
from audits.memorization.judging import judge
from audits.memorization.metrics import (
    ExactMatch,
    ExtractionStrength,
    MemorizationMetric,
    NearMatch,
    NPExtraction,
    TokenAccuracy,
)
from audits.scoring.model_access import ModelAccess
from audits.statistics.proportions import clopper_pearson
from common.errors import UserError
from datamodules.encoding import EncodedRecord
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import SamplingSettings, generate
from tests.audits.membership.signals.conftest import Planted, planted
from tests.audits.memorization.slow_reference import greedy_texts, half_learnt_records
from tests.audits.memorization.test_greedy_decoding import tiny_access
from tests.kdmodules.conftest import TINY

__all__ = ["planted"]

METRICS: list[MemorizationMetric] = [
    TokenAccuracy(8),
    ExtractionStrength(),
    ExactMatch(0, 12, 3),
    ExactMatch(5, 12, 3),
    NPExtraction(0, 12, 3, temperature=0.7, top_k=20, top_p=0.9),
    NPExtraction(5, 12, 3, top_k=0),
    NearMatch("rouge_l", 0, 12, 3),
    NearMatch("edit_similarity", 5, 12, 3),
    NearMatch("bleu", 0, 12, 3),
]


def continuations_of(
    access: ModelAccess, records: Sequence[EncodedRecord], metrics: Sequence[MemorizationMetric]
) -> list[GreedyContinuation]:
    schemes = {metric.scheme for metric in metrics if metric.scheme is not None}
    with torch.no_grad():
        return continue_greedily(
            access,
            records,
            lambda one: [
                request
                for metric in metrics
                if metric.judged_tokens(one)
                for request in metric.requests(one)
            ],
            list(schemes),
            read_tokens=lambda one: max(metric.read_tokens(one) for metric in metrics),
        )


def naive(access: ModelAccess, metric: MemorizationMetric, record: EncodedRecord) -> float | None:
    """A metric of one record from generation alone; None where it is undefined."""
    truth, eos_id = list(record.response_ids), access.encoder.eos_id
    real = truth if record.response_cut else truth[:-1]

    def greedy(k: int, tokens: int) -> list[int]:
        return greedy_texts(access, [[*record.prompt_ids, *truth[:k]]], [tokens])[0]

    if isinstance(metric, TokenAccuracy):
        judged = real[: metric.tokens]
        written = [*greedy(0, len(judged)), *[None] * len(judged)]
        hits = [own == true for own, true in zip(written, judged, strict=False)]
        return sum(hits) / len(judged) if judged else None
    if isinstance(metric, ExtractionStrength):
        right = [k for k in range(len(real) + 1) if greedy(k, len(real) - k) == real[k:]]
        return 1 - min(right) / len(real) if real else None
    k, n = metric.prefix_tokens, 12
    suffix = truth[k : k + n]
    if len(suffix) < 3:
        return None
    if isinstance(metric, ExactMatch):
        return float(greedy(k, len(suffix)) == suffix)
    if isinstance(metric, NPExtraction):
        return naive_log_probability(access, metric.sampling, record, suffix, k)
    a = [one for one in suffix if not (one == eos_id and not record.response_cut)]
    b = [one for one in greedy(k, len(suffix)) if one != eos_id]
    return naive_similarity(access, metric, a, b)


def naive_log_probability(
    access: ModelAccess,
    sampling: SamplingSettings,
    record: EncodedRecord,
    suffix: list[int],
    k: int,
) -> float:
    """Log of the product of the sampling probabilities, one forward pass per token, by sorting."""
    given, product = [*record.prompt_ids, *record.response_ids[:k]], 1.0
    for token in suffix:
        with torch.no_grad():
            logits = access.lm.model(torch.tensor([given])).logits[0, -1, :].double()
        scores = (logits[: access.lm.vocabulary_size] / sampling.temperature).tolist()
        order = sorted(range(len(scores)), key=lambda one: -scores[one])
        kept = order[: sampling.top_k or None]
        weights = [math.exp(scores[one] - scores[order[0]]) for one in kept]
        nucleus, mass = [], 0.0
        for one, weight in zip(kept, weights, strict=True):
            if mass < sampling.top_p:
                nucleus.append(one)
            mass += weight / sum(weights)
        total = sum(math.exp(scores[one] - scores[order[0]]) for one in nucleus)
        share = math.exp(scores[token] - scores[order[0]]) / total if token in nucleus else 0.0
        product *= share
        given = [*given, token]
    return math.log(product) if product else -math.inf


def naive_similarity(
    access: ModelAccess, metric: MemorizationMetric, a: list[int], b: list[int]
) -> float | None:
    """ROUGE-L, edit similarity or BLEU of two token lists by other people's code or recursion."""
    from nltk.translate.bleu_score import sentence_bleu

    if metric.params["measure"] == "bleu":
        return sentence_bleu([a], b) if len(b) > 3 else 0.0
    if metric.params["measure"] == "edit_similarity":
        table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
        for i in range(1, len(a) + 1):
            for j in range(1, len(b) + 1):
                swap = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
                table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, swap)
        return 1 - table[len(a), len(b)] / max(len(a), len(b))
    texts = [access.encoder.tokenizer.decode(one, skip_special_tokens=True) for one in (a, b)]
    if not all(text.isascii() and any(map(str.isalnum, text)) for text in texts):
        return math.nan  # rouge_score knows ASCII words alone; test_rouge has the others
    return RougeScorer(["rougeL"]).score(*texts)["rougeL"].fmeasure


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: f"{metric.name}-{metric.params}")
def test_no_more_is_read_than_needed(
    metric: MemorizationMetric, tokenizer: PreTrainedTokenizerFast
) -> None:
    """A metric on its own reads fewer tokens than beside others, and finds the same."""
    access = tiny_access("gpt2", tokenizer)
    records = half_learnt_records(access, 20, 20, seed=6)
    names = [record.record_id for record in records]
    alone, beside = (
        judge(metric, "private", continuations_of(access, records, metrics), names)
        for metrics in ([metric], METRICS)
    )
    assert alone.record_ids == beside.record_ids
    assert alone.values == pytest.approx(beside.values, abs=1e-9, nan_ok=True)


@pytest.mark.filterwarnings("ignore:.*overlaps.*:UserWarning")
@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[pytest.mark.slow] * (f != "llama")) for f in sorted(TINY)]
)
def test_equals_token_by_token_generation(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    access = tiny_access(family, tokenizer, batch_size=7)
    records = half_learnt_records(access, 20, 20, seed=5)
    continuations = continuations_of(access, records, METRICS)
    for metric in METRICS:
        found = judge(metric, "private", continuations, [record.record_id for record in records])
        expected = {one.record_id: naive(access, metric, one) for one in records}
        defined = {name: value for name, value in expected.items() if value is not None}
        assert list(defined) == list(found.record_ids), metric.name
        assert found.skipped == len(records) - len(defined)
        for own, value in zip(found.values.tolist(), defined.values(), strict=True):
            if not math.isnan(value):
                assert own == pytest.approx(value, abs=1e-6), (metric.name, metric.params)


def test_probabilities_agree_with_sampling(planted: Planted) -> None:
    """1,000 draws of each suffix: the share that is the suffix is a binomial of p_z."""
    metric = NPExtraction(0, 4, 2, temperature=1.3, top_k=8, top_p=0.95)
    access = planted.access
    records = access.encoder.encode_all(planted.members)
    continuations = continuations_of(access, records, [metric])
    shares = {
        record.record_id: math.exp(metric.record_value(one) or 0.0)
        for record, one in zip(records, continuations, strict=True)
    }
    chosen = sorted(records, key=lambda record: abs(shares[record.record_id] - 0.3))[:2]
    for record in chosen:
        p_z = shares[record.record_id]
        assert 0.02 < p_z < 0.98, "a probability that 1,000 draws can tell"
        draws = generate(
            access.lm.model,
            [record.prompt_ids] * 1000,
            [f"draw-{draw}" for draw in range(1000)],
            metric.sampling,
            access.vocabulary,
            RandomScope(0, "monte carlo"),
        )
        hits = sum(draw.token_ids == record.response_ids[:4] for draw in draws)
        lower, upper = clopper_pearson(hits, 1000, tail=0.001)
        assert lower < p_z < upper, (p_z, hits)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TokenAccuracy(0), "tokens is 0"),
        (lambda: ExactMatch(-1), "prefix_tokens is -1"),
        (lambda: ExactMatch(0, 5, 10), "suffix_tokens is 5"),
        (lambda: NPExtraction(top_p=0.0), "top_p is 0.0"),
        (lambda: NPExtraction(probabilities=[1.0]), "probabilities"),
        (lambda: NearMatch("bleu", threshold=1.0), "threshold is 1.0"),
    ],
)
def test_bad_options_are_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(UserError, match=message):
        build()
