"""Building and loading networks: seeds, round trips, and what is refused."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from common.errors import UserError
from datamodules.tokenizer import train_tokenizer
from kdmodules.models.checkpoints import METADATA_KEY, WEIGHTS_PREFIX, checkpoint_metadata
from kdmodules.models.network import Network, build_network, load_model
from tests.kdmodules.conftest import TINY


def same(a: PreTrainedModel, b: PreTrainedModel) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("family", sorted(TINY))
def test_scratch_weights_follow_the_seed_alone(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    network = Network(family, None, TINY[family])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build_network(network, tokenizer, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(first, build_network(network, tokenizer, seed=1))
    assert not same(first, build_network(network, tokenizer, seed=2))
    assert first.config.vocab_size == len(tokenizer)


def test_padding_shares_eos_and_still_learns(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    embedding = family_model.get_input_embeddings()
    embedding(torch.tensor([tokenizer.pad_token_id])).sum().backward()
    assert embedding.weight.grad[tokenizer.pad_token_id].abs().sum() > 0


def test_folder_round_trip(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    family_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    family = family_model.config.model_type
    loaded = build_network(Network(family, str(tmp_path)), tokenizer, seed=0)
    assert same(loaded, family_model)
    assert loaded.dtype == torch.float32


def test_checkpoint_round_trip(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    weights = {WEIGHTS_PREFIX + name: value for name, value in family_model.state_dict().items()}
    metadata = checkpoint_metadata(family_model, tokenizer)
    torch.save({"state_dict": weights, METADATA_KEY: metadata}, path)
    assert same(load_model(str(path)), family_model)
    family = family_model.config.model_type
    assert same(build_network(Network(family, str(path)), tokenizer, seed=0), family_model)
    torch.save({"state_dict": weights}, path)
    with pytest.raises(UserError, match="not written by kd-privacy"):
        load_model(str(path))


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    build_network(Network("gpt2", None, TINY["gpt2"]), tokenizer, 0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_dropout_may_be_changed_and_nothing_else(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    loaded = build_network(Network("gpt2", str(folder), {"attn_pdrop": 0.35}), tokenizer, 0)
    assert loaded.transformer.h[0].attn.attn_dropout.p == 0.35
    assert all(module.training for module in loaded.modules())
    with pytest.raises(UserError, match="n_layer=2, model.network.config.n_layer says 5"):
        build_network(Network("gpt2", str(folder), {"n_layer": 5}), tokenizer, 0)
    with pytest.raises(UserError, match="is a gpt2 model, model.network.family says opt"):
        build_network(Network("opt", str(folder)), tokenizer, 0)


def test_other_vocabulary_of_equal_size_is_refused(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    other = train_tokenizer(
        ["completely different words, over and over: zygote quartz fjord banked " * 50], 300
    )
    assert len(other) == len(tokenizer)
    with pytest.raises(UserError, match=r"300 tokens, \w+\) is not the vocabulary of.*300 tokens"):
        build_network(Network("gpt2", str(folder)), other, 0)


def test_wrong_sources_are_named(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither source nor config"):
        build_network(Network("gpt2"), tokenizer, 0)
    with pytest.raises(UserError, match="n_layers is not an option of GPT2Config"):
        build_network(Network("gpt2", None, {"n_layers": 2}), tokenizer, 0)
    with pytest.raises(UserError, match=r"missing.ckpt does not exist"):
        load_model(str(tmp_path / "missing.ckpt"))
    with pytest.raises(UserError, match="does not exist"):
        load_model(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("family", sorted(TINY))
def test_one_dropout_rate_is_that_of_every_family(
    family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    expected = {
        "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
        "opt": ("dropout", "attention_dropout"),
        "llama": ("attention_dropout",),
    }[family]
    scratch = build_network(Network(family, None, TINY[family], dropout=0.25), tokenizer, seed=0)
    build_network(Network(family, None, TINY[family]), tokenizer, 0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = build_network(Network(family, str(tmp_path), dropout=0.25), tokenizer, seed=0)
    for model in (scratch, loaded):
        assert [getattr(model.config, name) for name in expected] == [0.25] * len(expected)
    ids = torch.arange(3, 23).unsqueeze(0)
    assert not torch.equal(loaded(ids).logits, loaded(ids).logits)
    with pytest.raises(UserError, match=r"model\.network\.dropout needs model\.network\.family"):
        build_network(Network(None, str(tmp_path), dropout=0.25), tokenizer, seed=0)
