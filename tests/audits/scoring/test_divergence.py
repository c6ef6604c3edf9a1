"""The distance from the teacher equals a float64 loop over tokens, for one teacher and several."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.scoring.divergence import divergences
from audits.scoring.model_access import ModelAccess
from common.ranks import Ranks
from datamodules.encoding import EncodedRecord
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, build_network
from tests.kdmodules.conftest import TINY


def access(lm: CausalLM) -> ModelAccess:
    """Batches of at most 4 records and 60 tokens."""
    encoder = SimpleNamespace(pad_id=0)
    return ModelAccess(lm, encoder, Ranks(), 4, 60, 0, lambda *_: nullcontext(lambda: None))


def naive(
    student: PreTrainedModel, teachers: list[PreTrainedModel], record: EncodedRecord
) -> float:
    ids = torch.tensor([record.prompt_ids + record.response_ids])
    first = len(record.prompt_ids) - 1

    def probabilities(model: PreTrainedModel) -> torch.Tensor:
        return model(ids).logits[0, first:-1, :300].double().softmax(-1)

    with torch.no_grad():
        p = torch.stack([probabilities(model) for model in teachers]).mean(0)
        return float((p * (p.log() - probabilities(student).log())).sum())


@pytest.mark.parametrize("family", sorted(TINY))
def test_equals_a_loop(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    models = [
        build_network(Network(family, None, TINY[family]), tokenizer, seed=seed).double().eval()
        for seed in (1, 2, 3)
    ]
    student, *teachers = (CausalLM(model, 300) for model in models)
    draw = torch.Generator().manual_seed(4)
    records = [
        EncodedRecord(
            f"r{row}",
            "open_qa",
            tuple(torch.randint(300, (2 + row % 5,), generator=draw).tolist()),
            tuple(torch.randint(300, (1 + row,), generator=draw).tolist()),
            prompt_cut=False,
            response_cut=True,
        )
        for row in range(9)
    ]
    for count in (1, 2):
        with torch.no_grad():
            found = divergences(access(student), teachers[:count], records, "")
        expected = [naive(models[0], models[1 : 1 + count], record) for record in records]
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert min(found) > 0
    with torch.no_grad():
        same = divergences(access(student), [student], records, "")
    assert np.abs(same).max() < 1e-12
