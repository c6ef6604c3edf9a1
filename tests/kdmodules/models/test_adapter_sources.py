"""Adapters as people ship them: on the hub, for a quantised base, with embeddings of their own."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from audits.scoring.references import ReferenceModel
from callbacks.run import ReferenceModels
from common.errors import UserError
from datamodules.batches import RecordEncoder
from datamodules.templates import NONE
from kdmodules.models.adapters import Adapter
from kdmodules.models.network import (
    Network,
    build_network,
    load_model,
    require_same_vocabulary,
    source_tokenizer,
)
from kdmodules.teacher_cache.identity import source_hash
from kdmodules.teachers import Teachers, TeacherWeights
from tests.kdmodules.models.architectures import logits, same_weights, saved


def trained(base: Path, rows: int | None = None, **options: Any) -> peft.PeftModel:
    """Somebody's LoRA on a base, each trained weight far from where it began."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    form = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], **options}
    theirs = peft.get_peft_model(model, peft.LoraConfig(**form)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return theirs


@pytest.fixture(params=[False, True], ids=["own head", "tied"])
def base(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Path:
    saved("qwen3", tokenizer, tmp_path / "base", tie_word_embeddings=request.param)
    return tmp_path / "base"


CASES: dict[str, dict[str, Any]] = {
    "resized": {"rows": 303},
    "cut": {"rows": 290},
    "saved": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "resized and saved": {"rows": 303, "modules_to_save": ["embed_tokens", "lm_head"]},
    "adapted": {"target_modules": ["q_proj", "embed_tokens"]},
    "tokens": {"trainable_token_indices": [3, 5]},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_embeddings_that_an_adapter_brings_are_taken(
    case: str, base: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    theirs = trained(base, **CASES[case])
    expected = logits(theirs)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = load_model(str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(ours), expected, atol=1e-5, rtol=1e-5)
    assert ours.config.vocab_size == CASES[case].get("rows", 300)
    assert not torch.allclose(expected[..., :290], logits(load_model(str(base)))[..., :290])
    ours.save_pretrained(tmp_path / "merged")
    again = load_model(str(tmp_path / "merged"))
    assert torch.equal(logits(again), logits(ours))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.equal(logits(plain), logits(ours))


def test_half_an_embedding_does_not_fit(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved("qwen3", tokenizer, tmp_path / "base", tie_word_embeddings=False)
    trained(tmp_path / "base", rows=303).save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = {n: v for n, v in load_file(file).items() if "lm_head" not in n}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"model.embed_tokens with 303 rows where the base has 300"):
        load_model(str(tmp_path / "adapter"))


def quantised(folder: Path) -> None:
    """Says of a folder what bitsandbytes says of its own."""
    file = folder / "config.json"
    own = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    written = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**written, "quantization_config": own}), encoding="utf-8")


def test_another_base_may_be_named(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """As for an adapter that was trained on a base in four bits."""
    model = saved("qwen3", tokenizer, tmp_path / "base")
    saved("qwen3", tokenizer, tmp_path / "base-4bit")
    theirs = trained(tmp_path / "base-4bit")
    theirs.save_pretrained(tmp_path / "adapter")
    quantised(tmp_path / "base-4bit")
    source, plain = str(tmp_path / "adapter"), str(tmp_path / "base")
    with pytest.raises(UserError, match=r"quantised \(bitsandbytes\).*as adapter_base"):
        load_model(source)
    expected = logits(theirs)
    ours = load_model(source, adapter_base=plain)
    torch.testing.assert_close(logits(ours), expected, atol=1e-5, rtol=1e-5)
    network = Network(source=source, adapter_base=plain)
    built = build_network(network, tokenizer, seed=0)
    assert same_weights(built, ours)
    going_on = Adapter(r=2, alpha=4, dropout=0.0, continued=True)
    network = Network(source=source, adapter_base=plain, adapter=going_on)
    torch.testing.assert_close(logits(build_network(network, tokenizer, 0)), expected)
    half = load_model(source, adapter_base=plain, dtype="bfloat16")
    rounded = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.bfloat16).float()
    merged = peft.PeftModel.from_pretrained(rounded, source).merge_and_unload()
    assert same_weights(half, merged.to(torch.bfloat16))
    assert same_weights(load_model(plain), model)
    teachers = Teachers([source], TeacherWeights(adapter_base=plain))
    teachers.load(tokenizer, 16, None, torch.device("cpu"))
    encoder = RecordEncoder(tokenizer, NONE, max_prompt_tokens=16, max_tokens=64)
    reference = ReferenceModel.of_source(source, encoder, adapter_base=plain)
    for lm in (*teachers.models, reference.lm):
        assert same_weights(lm.model, ours)
    assert source_hash(source, plain) not in (source_hash(source), source_hash(plain))
    with pytest.raises(UserError, match="is no adapter alone"):
        load_model(plain, adapter_base=plain)


def test_adapters_lie_on_the_hub_too(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def place(name: str) -> Path:
        repository = tmp_path / "cache" / f"models--owner--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("1" * 40)
        return repository / "snapshots" / ("1" * 40)

    saved("qwen3", tokenizer, place("base"))
    theirs: PreTrainedModel = trained(tmp_path / "cache/models--owner--base/snapshots" / ("1" * 40))
    theirs.peft_config["default"].base_model_name_or_path = "owner/base"
    theirs.save_pretrained(place("tuned"))
    ours = load_model("owner/tuned")
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=1e-5)
    require_same_vocabulary("owner/tuned", tokenizer)
    assert len(source_tokenizer("owner/tuned")) == len(tokenizer)
    assert source_hash("owner/tuned") == f"owner/tuned@{'1' * 40}+owner/base@{'1' * 40}"
    with pytest.raises(UserError, match="model 'owner/nothing' cannot be loaded"):
        load_model("owner/nothing")


def test_a_base_of_no_reference_is_refused() -> None:
    with pytest.raises(UserError, match="adapter_bases.other is given, but no references"):
        ReferenceModels({"base": "a"}, adapter_bases={"other": "b"})
