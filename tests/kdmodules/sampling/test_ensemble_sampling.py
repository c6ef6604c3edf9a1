"""A teacher ensemble decodes as one model: against a naive loop, a chi-square and one member."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import PreTrainedModel

from common.errors import UserError
from datamodules.encoding import EncodedRecord
from kdmodules.sampling.ensemble_sampling import ensemble_responses
from kdmodules.sampling.keyed_choice import keyed_choice
from kdmodules.sampling.sampler import SamplingSettings, generate_responses
from tests.kdmodules.sampling.test_mixture_sampling import (
    EOS,
    SCOPE,
    TOKENS,
    VOCABULARY,
    build,
    last_logits,
    make_encoded,
)


def members(*families: str) -> list[PreTrainedModel]:
    """Models whose vocabularies have padded rows, which get no probability."""
    return [build(family, seed=i, rows=TOKENS + 7 * i) for i, family in enumerate(families)]


def average(models: Sequence[PreTrainedModel], ids: Sequence[int], temperature: float = 1.0):
    """Mean of the members' next-token distributions, float64 [V]."""
    logits = torch.stack([last_logits(model, ids)[0].double() for model in models])
    return (logits / temperature).softmax(-1).mean(0)


def cut(probabilities: torch.Tensor, top_p: float, top_k: int) -> torch.Tensor:
    """Top-k, then top-p on what is left, token by token."""
    order = probabilities.argsort(descending=True).tolist()
    order = order[:top_k] if top_k else order
    total, mass, kept = float(probabilities[order].sum()), 0.0, []
    for token in order:
        if mass < top_p:
            kept.append(token)
        mass += float(probabilities[token]) / total
    result = torch.zeros_like(probabilities)
    result[kept] = probabilities[kept]
    return result


@pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(max_new_tokens=12),
        SamplingSettings(max_new_tokens=12, temperature=1.7, top_p=0.9, top_k=20),
        SamplingSettings("greedy", max_new_tokens=12),
    ],
    ids=["plain", "cut", "greedy"],
)
@pytest.mark.parametrize("families", [("gpt2", "gpt2"), ("opt", "llama", "gpt2")])
def test_responses_equal_the_naive_loop(
    families: tuple[str, ...], settings: SamplingSettings
) -> None:
    models, encoded = members(*families), make_encoded(10)
    found = ensemble_responses(models, encoded, settings, VOCABULARY, SCOPE, batch_size=4)
    for record, response in zip(encoded, found, strict=True):
        assert response.record_id == record.record_id
        ids = list(record.prompt_ids)
        for position, token in enumerate(response.token_ids):
            if settings.decoding == "greedy":
                assert int(average(models, ids).argmax()) == token
            else:
                p = cut(average(models, ids, settings.temperature), settings.top_p, settings.top_k)
                keys = SCOPE.keys([record.record_id])
                assert int(keyed_choice(p.log()[None], keys, stream=position)) == token
            ids.append(token)
        assert EOS not in response.token_ids[:-1]
        assert response.ended == (response.token_ids[-1] == EOS)
        assert response.ended or len(response.token_ids) == 12
    assert any(not response.ended for response in found)


def test_tokens_follow_the_average() -> None:
    models, count, prompt = members("gpt2", "gpt2", "opt"), 8_000, (5, 9, 11)
    encoded = [
        EncodedRecord(f"record-{index}", "open_qa", prompt, (EOS,), False, False)
        for index in range(count)
    ]
    settings = SamplingSettings(max_new_tokens=1)
    found = ensemble_responses(models, encoded, settings, VOCABULARY, SCOPE, batch_size=2_000)
    observed = np.bincount([response.token_ids[0] for response in found], minlength=TOKENS)
    expected = average(models, prompt).numpy() * count
    assert expected.min() >= 5
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    for model in models:
        alone = average([model], prompt).numpy() * count
        assert stats.chisquare(observed, alone).pvalue < 1e-6


@pytest.mark.parametrize("decoding", ["sample", "greedy", "beam"])
def test_one_member_decodes_by_generate_and_twins_as_one(decoding: str) -> None:
    model, encoded = build("gpt2", seed=0), make_encoded(40)
    settings = SamplingSettings(decoding, max_new_tokens=12, beams=2)
    alone = ensemble_responses([model], encoded, settings, VOCABULARY, SCOPE)
    assert alone == generate_responses(model, encoded, settings, VOCABULARY, SCOPE)
    if decoding != "beam":
        twins = ensemble_responses([model, model], encoded, settings, VOCABULARY, SCOPE)
        assert np.mean([a == b for a, b in zip(twins, alone, strict=True)]) >= 0.99


def test_a_record_gets_the_same_text_in_any_batch() -> None:
    models, encoded = members("gpt2", "gpt2"), make_encoded(60)
    settings = SamplingSettings(max_new_tokens=12)
    whole = ensemble_responses(models, encoded, settings, VOCABULARY, SCOPE)
    alone = ensemble_responses(models, encoded[::-1], settings, VOCABULARY, SCOPE, batch_size=1)
    assert np.mean([a == b for a, b in zip(whole, alone[::-1], strict=True)]) >= 0.99


@pytest.mark.parametrize("decoding", ["sample", "greedy"])
def test_what_cannot_be_decoded_is_refused(decoding: str) -> None:
    models, encoded = members("gpt2", "gpt2"), make_encoded(2)
    with pytest.raises(UserError, match="one teacher, model.teacher names 2: choose decoding"):
        ensemble_responses(models, encoded, SamplingSettings("beam"), VOCABULARY, SCOPE)
    settings = SamplingSettings(decoding, max_new_tokens=4)
    with torch.no_grad():
        models[1].transformer.wpe.weight[0] = torch.nan
    with pytest.raises(UserError, match=r"record-\d: .* not finite .2 of 2"):
        ensemble_responses(models, encoded, settings, VOCABULARY, SCOPE)
