"""Probabilities of spans equal a float64 loop and sampling frequencies; ranks equal brute force."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.memorization.metrics.n_p_extraction import samples_needed
from audits.scoring.model_access import ModelAccess
from audits.spans.answers import sample_answers
from audits.spans.located import locate
from audits.spans.probabilities import candidates, span_scores
from audits.spans.prompts import reworded, rewordings
from datamodules.encoding import EncodedRecord
from datamodules.records import InstructionRecord
from datamodules.sensitive import SensitiveSpan
from kdmodules.sampling.sampler import SamplingSettings
from tests.audits.membership.signals.conftest import access_of
from tests.kdmodules.conftest import one_family

WIDE = SamplingSettings(temperature=1.2, top_k=290, top_p=0.99)
NARROW = SamplingSettings(temperature=0.8, top_k=60, top_p=0.9)


def record(index: int, response: str, *spans: str) -> InstructionRecord:
    return InstructionRecord(
        f"r{index}",
        f"the cat {index}",
        "",
        response,
        "",
        f"test:{index}",
        sensitive=tuple(SensitiveSpan(text, "number") for text in spans),
    )


RECORDS = [
    record(0, "the mat 21 sat on 35", "21", "35"),
    record(1, "on the mat 84 the cat", "84"),
    record(2, "the cat sat on 7", "7"),
    record(3, "the mat 98", "98"),
]


def sampled_log_probabilities(
    access: ModelAccess, one: EncodedRecord, scheme: SamplingSettings
) -> np.ndarray:
    """Of each response token under the scheme, by a plain sort in float64."""
    ids = torch.tensor([one.prompt_ids + one.response_ids])
    with torch.no_grad():
        logits = access.lm.model(input_ids=ids).logits[0, :, : access.lm.vocabulary_size].double()
    found = []
    for place, token in enumerate(one.response_ids):
        scaled = (logits[len(one.prompt_ids) + place - 1] / scheme.temperature).numpy()
        order = np.argsort(-scaled, kind="stable")[: scheme.top_k]
        weights = np.exp(scaled[order] - scaled[order[0]])
        mass = np.cumsum(weights / weights.sum())
        kept = order[: int(np.searchsorted(mass, scheme.top_p)) + 1]
        weights = np.exp(scaled[kept] - scaled[order[0]])
        inside = kept.tolist().index(token) if token in kept else None
        with np.errstate(divide="ignore"):
            found.append(np.log(0.0 if inside is None else weights[inside] / weights.sum()))
    return np.array(found)


@one_family
@pytest.mark.parametrize("scheme", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_probability_equals_a_float64_loop(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, scheme: SamplingSettings
) -> None:
    access = access_of(family_model.double(), tokenizer, 3)
    encoded = access.encoder.encode_last(RECORDS)
    with torch.no_grad():
        found = span_scores(access, RECORDS, [], scheme, "test")
    rewordings_of = [
        access.encoder.encode_last([reworded(one, wording) for one in RECORDS])
        for wording in rewordings()
    ]
    assert len(found.spans) == 5
    for row, span in enumerate(found.spans):
        logp = sampled_log_probabilities(access, encoded[span.record], scheme)
        assert found.before[row] == pytest.approx(logp[span.first : span.last].sum(), abs=1e-5)
        assert found.asked[row] == pytest.approx(logp[: span.last].sum(), abs=1e-5)
        others = [
            np.exp(sampled_log_probabilities(access, each[span.record], scheme)[: span.last].sum())
            for each in rewordings_of
        ]
        assert np.exp(found.reworded[row]) == pytest.approx(np.mean(others), rel=1e-4)
    # Both kinds are met: a token outside of the nucleus, and spans that lie within it.
    assert (np.isinf if scheme == NARROW else np.isfinite)(found.asked).any()
    assert np.isinf(samples_needed(found.asked[np.isinf(found.asked)], 0.5)).all()


@one_family
def test_exact_probabilities_are_sampling_frequencies(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    # What the model writes are digits, which a tokenizer gives back as they were drawn.
    weight = family_model.get_output_embeddings().weight.data
    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    kept = torch.zeros(len(weight), 1).index_fill_(0, torch.tensor(digits), 20.0)
    weight.mul_(kept)
    access = access_of(family_model, tokenizer, 512)
    scheme = SamplingSettings(temperature=8.0, top_k=4, top_p=0.95)
    prompt = access.encoder.encode_last([record(5, "")])[0]
    copies = [replace(prompt, record_id=f"copy-{number}") for number in range(512)]
    with torch.no_grad():
        drawn = sample_answers(access, copies, [2] * len(copies), 4, scheme, "test")
    answers = [answer for own in drawn for answer in own]
    texts = sorted(
        {
            text
            for answer in answers[:64]
            if (text := tokenizer.decode(list(answer))).strip() == text != ""
            and tuple(tokenizer(text)["input_ids"]) == answer
        }
    )
    assert len(texts) >= 3
    records = [replace(record(5, text, text), id=f"drawn-{text}") for text in texts]
    with torch.no_grad():
        found = span_scores(access, records, [], scheme, "test")
    for span, logp in zip(found.spans, found.asked, strict=True):
        hits = sum(answer == span.ids for answer in answers)
        test = stats.binomtest(hits, len(answers), float(np.exp(logp)))
        assert test.pvalue > 1e-4, (span.text, hits, np.exp(logp))
    assert np.exp(found.asked).max() < 0.6


def test_ranks_equal_brute_force(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    access = access_of(family_model.double(), tokenizer, 3)
    encoded = access.encoder.encode_last(RECORDS)
    others = locate(access.encoder, RECORDS, encoded)
    with torch.no_grad():
        found = span_scores(access, RECORDS, others, WIDE, "test")
    counted = 0
    for row, span in enumerate(found.spans):
        rivals = [
            one.ids
            for one in others
            if one.record != span.record and len(one.ids) == len(span.ids) and one.text != span.text
        ]
        assert candidates(span, others) == list(dict.fromkeys(rivals))
        if not rivals:
            assert np.isnan(found.preferred[row])
            continue
        counted += 1
        start = (*encoded[span.record].prompt_ids, *encoded[span.record].response_ids[: span.first])
        own, *theirs = (likelihood(access, start, ids) for ids in (span.ids, *rivals))
        below = sum(1.0 if other < own else 0.5 * (other == own) for other in theirs)
        assert found.preferred[row] == pytest.approx(below / len(rivals))
    assert counted >= 3


def likelihood(access: ModelAccess, start: tuple[int, ...], ids: tuple[int, ...]) -> float:
    """The log-likelihood of some tokens after others by the plain model."""
    with torch.no_grad():
        logits = access.lm.model(input_ids=torch.tensor([[*start, *ids]])).logits[0]
    logp = logits[:, : access.lm.vocabulary_size].log_softmax(-1)
    return sum(float(logp[len(start) + place - 1, token]) for place, token in enumerate(ids))
