"""What is no causal language model is refused before it is run; a text part is taken out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BertConfig,
    CLIPVisionConfig,
    Gemma3Config,
    LlamaConfig,
    LlavaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen3Config,
    T5Config,
)

from common.errors import UserError
from kdmodules.models.network import Network, build_network, load_model
from kdmodules.models.weight_files import find_weight_files
from tests.kdmodules.models.architectures import logits, random_model, same_weights, saved
from tests.kdmodules.models.test_strict_loading import FILE, refusal, rewrite

SMALL: dict[str, Any] = {
    **{"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
}
TEXT = {**SMALL, "num_key_value_heads": 2}
EYES: dict[str, Any] = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "image_size": 28, "patch_size": 14},
}
T5 = T5Config(vocab_size=300, d_model=32, d_ff=32, num_layers=1, num_heads=2)
SECTIONS = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
QWEN_VL = Qwen2_5_VLConfig(
    text_config={**TEXT, "rope_parameters": SECTIONS},
    vision_config={"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 32},
)


@pytest.mark.parametrize(
    ("loader", "config", "told"),
    [
        (AutoModelForSeq2SeqLM, T5, "an encoder-decoder (t5)"),
        (AutoModelForMaskedLM, BertConfig(**SMALL), "reads in both directions (BertForMaskedLM)"),
        (AutoModelForCausalLM, BertConfig(**SMALL), "an encoder alone (bert)"),
        (AutoModelForSequenceClassification, Qwen3Config(**TEXT), "a classifier or reward model"),
        (AutoModelForImageTextToText, QWEN_VL, "whose text part (qwen2_5_vl_text) is no model"),
    ],
    ids=["seq2seq", "masked", "encoder", "reward", "vision"],
)
def test_what_predicts_no_next_token_is_refused(
    loader: Any,
    config: PreTrainedConfig,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader.from_config(config).save_pretrained(tmp_path)
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_, **__: pytest.fail("it was run"))
    line = refusal(tmp_path)
    assert told in line
    assert "give a causal language model" in line


VISION = {
    "llava": LlavaConfig(
        vision_config=CLIPVisionConfig(**EYES),
        text_config=LlamaConfig(**TEXT),
        image_token_index=299,
    ),
    "gemma3": Gemma3Config(
        text_config={**TEXT, "head_dim": 8},
        vision_config={**EYES, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
        image_token_index=299,
    ),
}


@pytest.mark.parametrize("name", VISION)
def test_of_a_model_with_eyes_the_text_part_is_taken(
    name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Its own logits of text alone, trainable, and kept as a language model like any other."""
    whole = AutoModelForImageTextToText.from_config(VISION[name]).eval()
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert find_weight_files(str(tmp_path), {}) is None
    text = build_network(Network(source=str(tmp_path)), tokenizer, seed=0)
    assert text.num_parameters() < whole.num_parameters()
    text(torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
    assert all(parameter.grad is not None for parameter in text.parameters())
    assert torch.equal(logits(text), logits(whole))
    text.save_pretrained(tmp_path / "text")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "text")
    assert torch.equal(logits(again), logits(whole))
    rewrite(tmp_path, lambda all: {n: v for n, v in all.items() if "layers.1." not in n})
    assert "layers.1." in refusal(tmp_path)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "compressed-tensors"])
def test_a_quantised_format_without_its_package_is_named(method: str, tmp_path: Path) -> None:
    random_model("qwen3", 300).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    own = {"quant_method": method, "load_in_4bit": True, "bits": 4}
    file.write_text(json.dumps({**written, "quantization_config": own}), encoding="utf-8")
    line = refusal(tmp_path)
    assert f"its weights are quantised ({method}): install what that takes" in line
    assert "adapter_base" in line


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixed_names_of_any_architecture_are_refused(prefix: str, tmp_path: Path) -> None:
    random_model("qwen3", 300).save_pretrained(tmp_path)
    rewrite(tmp_path, lambda weights: {prefix + name: value for name, value in weights.items()})
    assert f"begins with '{prefix}'" in refusal(tmp_path)


def test_a_head_that_differs_from_its_tied_embedding_is_refused_anywhere(tmp_path: Path) -> None:
    model = random_model("gemma2", 300)
    assert model.config.tie_word_embeddings
    model.save_pretrained(tmp_path)
    other = model.get_input_embeddings().weight.detach().clone()
    other[[3, 8]] += 1
    rewrite(tmp_path, lambda weights: {**weights, "lm_head.weight": other})
    line = refusal(tmp_path)
    assert "lm_head.weight differs from model.embed_tokens.weight in 2 of 300 rows" in line


def bytes_of(model: PreTrainedModel) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def test_weights_stay_in_the_precision_that_is_asked_for(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Half the bytes, the same rounding as transformers', rotary frequencies whole."""
    whole = saved("qwen3", tokenizer, tmp_path / "whole")
    half = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    tokenizer.save_pretrained(tmp_path / "half")
    for source, dtype, expected in (
        ("whole", "float32", whole),
        ("whole", "auto", whole),
        ("whole", "bfloat16", half),
        ("half", "auto", half),
        ("half", "bfloat16", half),
    ):
        network = Network(source=str(tmp_path / source), dtype=dtype)
        ours = build_network(network, tokenizer, seed=0)
        assert same_weights(ours, expected), (source, dtype)
        assert ours.dtype == expected.dtype
        assert {buffer.dtype for buffer in ours.buffers()} == {torch.float32}
        files = find_weight_files(network.source, {}, dtype)
        assert files is not None
        assert files.dtype == expected.dtype
    assert 2 * bytes_of(half) == bytes_of(whole)
    scratch = Network("gpt2", None, {"n_layer": 1, "n_embd": 8, "n_head": 1}, dtype="bfloat16")
    drawn = build_network(scratch, tokenizer, seed=3)
    scratch.dtype = "float32"
    assert same_weights(drawn, build_network(scratch, tokenizer, seed=3).to(torch.bfloat16))


def test_a_device_map_places_a_model_and_has_its_limits(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    theirs = saved("qwen3", tokenizer, tmp_path)
    ours = load_model(str(tmp_path), device_map={"": "cpu"})
    assert same_weights(ours, theirs)
    with pytest.raises(UserError, match="is a checkpoint: export it first"):
        load_model(str(tmp_path / "last.ckpt"), device_map="auto")
    apart = {"model": "cpu", "lm_head": "disk"}
    with pytest.raises(UserError, match="device_map"):
        load_model(str(tmp_path), device_map=apart)


def test_a_folder_with_a_model_and_an_adapter_is_neither(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    model = saved("qwen3", tokenizer, tmp_path)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    assert "holds a whole model and an adapter" in refusal(tmp_path)
    assert load_file(tmp_path / FILE)
    save_file({"x": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    assert "\n" not in refusal(tmp_path)
