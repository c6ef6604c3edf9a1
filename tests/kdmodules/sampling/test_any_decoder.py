"""Models with windows and soft caps decode as transformers' own `generate` does."""

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from kdmodules.sampling.generation_batches import Vocabulary, left_pad
from kdmodules.sampling.joint_decoding import decode_jointly
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import SamplingSettings, generate
from tests.kdmodules.tiny_decoders import tiny_decoder

PROMPTS = [(5, 6, 7, 8, 9, 10, 11), (3,), (20, 21, 22)]
NAMES = ["a", "b", "c"]
STEPS = 12
VOCABULARY = Vocabulary(size=97, eos_id=0, pad_id=0)


def likeliest(logits: list[Tensor], position: int) -> Tensor:
    """Greedy choice."""
    return logits[0].argmax(dim=-1)


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "phi", "cohere", "bloom"])
@torch.no_grad()
def test_greedy_text_is_that_of_transformers(kind: str) -> None:
    if kind == "bloom":  # Neither a window nor position ids.
        config = AutoConfig.for_model("bloom", vocab_size=97, hidden_size=32, n_layer=2, n_head=4)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    else:
        model = tiny_decoder(kind)
    ids, mask = left_pad(PROMPTS, 0, model.device)
    config = GenerationConfig(
        max_new_tokens=STEPS, do_sample=False, eos_token_id=0, pad_token_id=0, use_cache=True
    )
    own = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    expected = []
    for row in own[:, ids.shape[1] :].tolist():
        expected.append(row[: row.index(0) + 1] if 0 in row else row)
    assert len({tuple(text) for text in expected}) == 3
    together = decode_jointly([model], PROMPTS, NAMES, likeliest, VOCABULARY, STEPS).tolist()
    settings = SamplingSettings("greedy", max_new_tokens=STEPS)
    alone = generate(model, PROMPTS, NAMES, settings, VOCABULARY, RandomScope(0, "test", 0))
    for text, drawn, response in zip(expected, together, alone, strict=True):
        assert drawn[: len(text)] == text
        assert list(response.token_ids) == text
