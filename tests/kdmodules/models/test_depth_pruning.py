"""A pruned model computes what its source does with blocks left out, and its cache agrees."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from common.errors import UserError
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.checkpoints import METADATA_KEY, WEIGHTS_PREFIX, checkpoint_metadata
from kdmodules.models.depth_pruning import prune_depth
from kdmodules.models.network import Network, build_network
from tests.kdmodules.conftest import TINY

DEPTH = {"gpt2": "n_layer", "opt": "num_hidden_layers", "llama": "num_hidden_layers"}


class Skip(nn.Module):
    """A block that hands its input on."""

    def forward(self, hidden: Tensor, *_: object, **__: object) -> Tensor:
        return hidden


def deep(family: str, tokenizer: PreTrainedTokenizerFast, depth: int = 5) -> PreTrainedModel:
    network = Network(family, None, {**TINY[family], DEPTH[family]: depth})
    model = build_network(network, tokenizer, seed=3).eval()
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    return model


def tokens() -> Tensor:
    return torch.arange(24).reshape(2, 12) * 7 % 300


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("family", sorted(TINY))
def test_logits_are_those_of_the_source_without_the_other_blocks(
    family: str, stride: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    source = deep(family, tokenizer)
    skipping = copy.deepcopy(source)
    listed = transformer_blocks(skipping)
    for index in range(len(listed)):
        if index % stride:
            listed[index] = Skip()
    pruned = prune_depth(source, stride)
    assert not any(tensor.is_meta for tensor in (*pruned.parameters(), *pruned.buffers()))
    assert (
        len(transformer_blocks(pruned))
        == getattr(pruned.config, DEPTH[family])
        == {2: 3, 3: 2}[stride]
    )
    with torch.no_grad():
        expected = skipping(tokens(), use_cache=False).logits
        assert not torch.allclose(expected, source(tokens(), use_cache=False).logits, atol=1e-3)
        torch.testing.assert_close(pruned(tokens(), use_cache=False).logits, expected)


@pytest.mark.parametrize("family", sorted(TINY))
def test_generation_with_a_cache_equals_generation_without(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    pruned = prune_depth(deep(family, tokenizer), 2)
    options = {"max_new_tokens": 20, "min_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
    cached = pruned.generate(tokens(), use_cache=True, **options)
    assert torch.equal(cached, pruned.generate(tokens(), use_cache=False, **options))
    assert len({int(token) for token in cached[:, 12:].flatten()}) > 1
    with torch.no_grad():
        cache = pruned(tokens(), use_cache=True).past_key_values
    assert len(cache) == 3


@pytest.mark.parametrize("family", sorted(TINY))
def test_a_pruned_source_trains_and_its_checkpoint_is_a_source(
    family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    source = deep(family, tokenizer)
    source.save_pretrained(tmp_path / "folder")
    tokenizer.save_pretrained(tmp_path / "folder")
    weights = {WEIGHTS_PREFIX + name: value for name, value in source.state_dict().items()}
    metadata = checkpoint_metadata(source, tokenizer)
    torch.save({"state_dict": weights, METADATA_KEY: metadata}, tmp_path / "last.ckpt")
    kept = {**TINY[family], DEPTH[family]: 3}
    expected = prune_depth(source, 2).state_dict()
    for name in ("folder", "last.ckpt"):
        network = Network(family, str(tmp_path / name), kept, depth_stride=2)
        built = build_network(network, tokenizer, seed=0)
        found = built.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)
        assert built.training
        assert all(parameter.requires_grad for parameter in built.parameters())
        tied = built.get_output_embeddings().weight is built.get_input_embeddings().weight
        assert tied == bool(built.config.tie_word_embeddings)
    built(tokens(), labels=tokens()).loss.backward()
    assert all(parameter.grad is not None for parameter in built.parameters())


def test_a_stride_of_one_changes_nothing(family_model: PreTrainedModel) -> None:
    before = {name: value.clone() for name, value in family_model.state_dict().items()}
    same = prune_depth(family_model, 1)
    assert same is family_model
    assert all(torch.equal(before[name], value) for name, value in same.state_dict().items())


def test_mistaken_strides_are_named(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"depth_stride is 2 but there is no model.network.source"):
        build_network(Network("gpt2", None, TINY["gpt2"], depth_stride=2), tokenizer, 0)
    deep("gpt2", tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for stride in (0, -1, 6):
        network = Network("gpt2", str(tmp_path), depth_stride=stride)
        with pytest.raises(UserError, match=rf"depth_stride is {stride} but the source has 5"):
            build_network(network, tokenizer, 0)
    network = Network("gpt2", str(tmp_path), {"n_layer": 5}, depth_stride=2)
    with pytest.raises(UserError, match=r"at depth_stride 2 has n_layer=3, .*n_layer says 5"):
        build_network(network, tokenizer, 0)
