"""Decoding from room set aside gives what the growing cache of transformers gives."""

import pytest
import torch
from transformers import (
    Cache,
    DynamicCache,
    GPT2Config,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from kdmodules.models.network import Network, build_network
from kdmodules.sampling.preallocated_cache import preallocated_cache
from tests.kdmodules.conftest import TINY


def steps(model: PreTrainedModel, cache: Cache, pieces: list[torch.Tensor]) -> list[torch.Tensor]:
    """Logits after each piece of a left-padded batch of two rows, the second three tokens short."""
    mask, found = torch.ones(2, 0, dtype=torch.int64), []
    for piece in pieces:
        fresh = torch.ones_like(piece)
        if not mask.shape[1]:
            fresh[1, :3] = 0
        mask = torch.cat([mask, fresh], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -piece.shape[1] :]
        with torch.no_grad():
            found.append(
                model(
                    input_ids=piece,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                ).logits[:, -1]
            )
    return found


@pytest.mark.parametrize("family", sorted(TINY))
def test_equals_the_growing_cache(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_network(Network(family, None, TINY[family]), tokenizer, seed=2).double().eval()
    drawn = torch.randint(5, 90, (2, 16), generator=torch.Generator().manual_seed(0))
    pieces = list(drawn.split([8, 1, 1, 3, 3], dim=1))
    room = preallocated_cache(model.config, 16)
    found = steps(model, room, pieces)
    expected = steps(model, DynamicCache(config=model.config), pieces)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)
    assert room.get_seq_length() == 16


def test_the_states_stay_where_they_were_written() -> None:
    cache = preallocated_cache(GPT2Config(n_layer=1), 5)
    first = torch.arange(12.0).view(1, 2, 3, 2)
    keys, _ = cache.update(first, -first, 0)
    grown, negative = cache.update(first[:, :, :2] + 100, first[:, :, :2], 0)
    assert grown.data_ptr() == keys.data_ptr()
    assert torch.equal(grown, torch.cat([first, first[:, :, :2] + 100], dim=2))
    assert torch.equal(negative[:, :, 3:], first[:, :, :2])
    with pytest.raises(ValueError, match="room for 5 tokens, not for 6"):
        cache.update(first[:, :, :1], first[:, :, :1], 0)
    cache.reset()
    again, _ = cache.update(first, first, 0)
    assert torch.equal(again, first)
