"""Architectures beyond the three families: loaded, pruned, adapted, kept and loaded again."""

import copy
import json
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from callbacks.weights import whole_model
from common.errors import UserError
from kdmodules.models.adapters import Adapter, adapter_of, merge_adapter, save_adapter
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.blueprint import realise, source_blueprint
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.checkpoints import METADATA_KEY, WEIGHTS_PREFIX, checkpoint_metadata
from kdmodules.models.depth_pruning import prune_depth
from kdmodules.models.flops import ModelCost, PassSize
from kdmodules.models.network import Network, build_network, load_model
from kdmodules.models.weight_files import find_weight_files
from studies.plan.settings import Settings
from studies.run.estimates.networks import network_of
from tests.kdmodules.models.architectures import (
    KINDS,
    TOKENS,
    logits,
    random_model,
    same_weights,
    saved,
)

SLOWLY = [
    pytest.param(kind, marks=() if kind in ("qwen3", "gemma2", "qwen3_moe") else pytest.mark.slow)
    for kind in KINDS
]


@pytest.mark.parametrize("kind", SLOWLY)
def test_a_source_is_what_it_is(
    kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Loaded, kept in a checkpoint, exported: each time what transformers itself computes."""
    theirs = saved(kind, tokenizer, tmp_path / "model")
    ours = build_network(Network(source=str(tmp_path / "model")), tokenizer, seed=0)
    assert ours.training
    # Gemma 2 caps the products of attention, which the fused one cannot.
    attention = "eager" if kind == "gemma2" else "sdpa"
    assert ours.config._attn_implementation == attention
    assert same_weights(ours, theirs)
    assert torch.equal(logits(ours), logits(theirs))
    if kind in ("qwen3_moe", "gpt_neox"):  # transformers converts what their files hold
        assert find_weight_files(str(tmp_path / "model"), {}) is None
    else:
        files = find_weight_files(str(tmp_path / "model"), {})
        assert files is not None
        named = dict(theirs.named_parameters())
        assert files.places.keys() == named.keys()
        assert all(files.rows(name, 0, len(named[name])).equal(named[name]) for name in named)
    state = {WEIGHTS_PREFIX + name: value for name, value in ours.state_dict().items()}
    metadata = checkpoint_metadata(ours, tokenizer)
    torch.save({"state_dict": state, METADATA_KEY: metadata}, tmp_path / "last.ckpt")
    kept = build_network(Network(kind, str(tmp_path / "last.ckpt")), tokenizer, seed=0)
    assert torch.equal(logits(kept), logits(theirs))
    whole_model(ours, ours.state_dict()).save_pretrained(tmp_path / "export")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert torch.equal(logits(again), logits(theirs))
    with pytest.raises(UserError, match=f"is a {kind} model, model.network.family says opt"):
        build_network(Network("opt", str(tmp_path / "model")), tokenizer, seed=0)


def test_from_scratch_an_architecture_needs_its_name(tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_network(Network("qwen3", None, KINDS["qwen3"]), tokenizer, seed=1)
    assert (model.config.model_type, model.config.vocab_size) == ("qwen3", len(tokenizer))
    assert len(transformer_blocks(model)) == 4
    for network, told in (
        (Network(config=KINDS["qwen3"]), "name the architecture as model.network.family"),
        (Network("qwen", None, KINDS["qwen3"]), "no causal language model of that type"),
        (Network("t5", None, {"num_layers": 2}), "no causal language model of that type"),
        (Network("qwen3", None, {"n_layer": 2}), "n_layer is not an option of Qwen3Config"),
        (Network("qwen3", None, {"head_dim": 4}, adapter_base="x"), "no model.network.source"),
    ):
        with pytest.raises(UserError, match=told):
            build_network(network, tokenizer, seed=0)


class Skip(nn.Module):
    """A block that hands its input on."""

    def forward(self, hidden: Tensor, *_: object, **__: object) -> Tensor:
        return hidden


class SkipInPair(nn.Module):
    """The same where a block returns a pair."""

    def forward(self, hidden: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        return hidden, None


@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text", "smollm3"])
def test_half_the_blocks_compute_what_they_did(kind: str) -> None:
    """Kinds of blocks follow them to their new places; the own loop of a model finds them there."""
    mixed = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    options = {"layer_types": mixed, "sliding_window": 4, "use_sliding_window": True}
    source = random_model(kind, 300, **options)
    pruned = prune_depth(source, 2)
    assert pruned.config.layer_types == mixed[::2]
    skipping = copy.deepcopy(source)
    for index in (1, 3):
        transformer_blocks(skipping)[index] = Skip()
    assert torch.equal(logits(pruned), logits(skipping))
    assert not torch.allclose(logits(pruned), logits(source), atol=1e-3)
    assert type(pruned.config).from_dict(pruned.config.to_dict()).layer_types == mixed[::2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_is_halved_and_adapted(
    kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    source = saved(kind, tokenizer, tmp_path)
    halved = Network(source=str(tmp_path), depth_stride=2, adapter=Adapter(r=2))
    model = build_network(halved, tokenizer, seed=0)
    skipping = copy.deepcopy(source)
    for index in range(len(transformer_blocks(skipping))):
        if index % 2:
            transformer_blocks(skipping)[index] = (
                SkipInPair() if kind in ("falcon", "gpt_neo") else Skip()
            )
    torch.testing.assert_close(logits(model), logits(skipping))
    adapted = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(adapted) in (2 * len(transformer_blocks(model)), 4 * len(transformer_blocks(model)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    expected = logits(model)
    merged = merge_adapter(model)
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)
    merged.save_pretrained(tmp_path / "half")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert torch.equal(logits(again), logits(merged))


def test_blocks_that_their_place_makes_are_not_moved() -> None:
    mixed = random_model("qwen3_moe", 300, mlp_only_layers=[2])
    with pytest.raises(UserError, match=r"a qwen3_moe model builds its blocks by their places"):
        prune_depth(mixed, 2)


def test_an_adapter_goes_to_queries_and_values_and_comes_back(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Default targets, PEFT's folder, merging, and going on with it, on a Qwen3."""
    base = tmp_path / "base"
    saved("qwen3", tokenizer, base)
    form = Adapter(r=2, alpha=6, dropout=0.0)
    model = build_network(Network(source=str(base), adapter=form), tokenizer, 1).eval()
    assert adapter_of(model) == Adapter(2, 6, 0.0, ["q_proj", "v_proj"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    save_adapter(model, model.state_dict(), tmp_path / "adapter", str(base))
    theirs = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter"
    )
    expected = logits(theirs)
    torch.testing.assert_close(logits(load_model(str(tmp_path / "adapter"))), expected)
    continued = Adapter(r=2, alpha=6, dropout=0.0, continued=True)
    network = Network(source=str(tmp_path / "adapter"), adapter=continued)
    torch.testing.assert_close(logits(build_network(network, tokenizer, 5)), expected)
    merged = merge_adapter(model)
    torch.testing.assert_close(logits(merged), expected, atol=1e-5, rtol=1e-5)
    assert merged.state_dict().keys() == load_model(str(base)).state_dict().keys()


def test_fused_projections_are_found(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    saved("gpt_neox", tokenizer, tmp_path)
    network = Network(source=str(tmp_path), adapter=Adapter(r=2))
    found = adapter_of(build_network(network, tokenizer, 1))
    assert found is not None
    assert found.targets == ["query_key_value"]


@pytest.mark.parametrize("kind", ["qwen3", "qwen3_moe"])
def test_operations_are_those_that_pytorch_counts(kind: str) -> None:
    """With heads wider than the hidden states, and of experts those that a token is sent to."""
    model = random_model(kind, 300)
    model.set_attn_implementation("eager")
    if kind == "qwen3_moe":  # the counter knows no grouped products
        model.set_experts_implementation("eager")
    lm = CausalLM(model, 300)
    with FlopCounterMode(display=False) as counter:
        lm(lambda lm: lm.states(TOKENS, torch.ones_like(TOKENS)))
    size = PassSize(TOKENS.numel(), 2 * 12**2, 0)
    assert counter.get_total_flops() == pytest.approx(ModelCost.of(lm).forward(size), rel=1e-3)


def test_a_plan_knows_the_network_of_a_folder(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = saved("qwen3", tokenizer, tmp_path)
    adapted = {"source": str(tmp_path), "depth_stride": 2, "adapter": {"r": 2}}
    figures = network_of(Settings({"model": {"network": adapted}}), None).figures()
    built = build_network(
        Network(source=str(tmp_path), depth_stride=2, adapter=Adapter(r=2)), tokenizer, 0
    )
    assert figures.parameters == sum(parameter.numel() for parameter in built.parameters())
    trained = sum(p.numel() for p in built.parameters() if p.requires_grad)
    assert figures.trainable == trained
    assert figures.head == model.lm_head.weight.numel()
    other = {"source": str(tmp_path), "family": "llama"}
    with pytest.raises(UserError, match="is a qwen3 model, model.network.family says llama"):
        network_of(Settings({"model": {"network": other}}), None)


@pytest.mark.parametrize(("rows", "valid"), [(297, 297), (151_936, 300)])
def test_a_head_of_other_rows_than_the_tokenizer_is_left_as_it_is(
    rows: int, valid: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Added tokens without a row, as a [PAD], and padding rows without a token, as Qwen's."""
    narrow = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": rows}
    model = saved("qwen3", tokenizer, tmp_path, **{**narrow, "layer_types": None})
    lm = realise(source_blueprint(str(tmp_path)), len(tokenizer))
    assert lm.vocabulary_size == valid
    assert torch.equal(lm.model.lm_head.weight, model.lm_head.weight)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == rows
