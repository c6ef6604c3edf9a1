"""Adapters: what trains, what merging gives, checkpoints, PEFT's folders, and what is refused."""

import json
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from common.errors import UserError
from kdmodules.losses import ForwardKL, KDStep
from kdmodules.models.adapters import Adapter, adapter_of, add_adapter, merge_adapter, save_adapter
from kdmodules.models.anatomy import blocks_path, transformer_blocks, trunk
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.checkpoints import METADATA_KEY, WEIGHTS_PREFIX, checkpoint_metadata
from kdmodules.models.network import Network, build_network, load_model, require_same_vocabulary
from kdmodules.optimization import OptimizerSettings, build_optimizer
from tests.kdmodules.conftest import TINY

ADAPTER = Adapter(r=4, alpha=12, dropout=0.0)


def tokens() -> Tensor:
    return torch.arange(24).reshape(2, 12) * 7 % 300


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(tokens(), use_cache=False).logits


def trained(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A tiny model whose adapter is far from zero, in evaluation mode."""
    network = Network(family, None, TINY[family], adapter=ADAPTER)
    model = build_network(network, tokenizer, seed=1).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=1.0)
    return model


def save_checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    weights = {WEIGHTS_PREFIX + name: value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights, METADATA_KEY: checkpoint_metadata(model, tokenizer)}, path)


def reference_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Plain weights by LoRA's equation 3 in float64, from the names of the state dict alone."""
    state = {name: value.double() for name, value in model.state_dict().items()}
    plain = {}
    for name, value in state.items():
        if ".base_layer." in name and name.endswith("weight"):
            stem = name.removesuffix(".base_layer.weight")
            update = state[f"{stem}.lora_B.default.weight"] @ state[f"{stem}.lora_A.default.weight"]
            if "c_attn" in name:
                update = update.T
            value = value + ADAPTER.alpha / ADAPTER.r * update
        if "lora_" not in name:
            plain[name.replace(".base_layer", "")] = value
    return plain


@pytest.mark.parametrize("family", sorted(TINY))
def test_only_the_adapter_trains_and_starts_at_nothing(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    plain = build_network(Network(family, None, TINY[family]), tokenizer, seed=1).eval()
    network = Network(family, None, TINY[family], adapter=ADAPTER)
    model = build_network(network, tokenizer, seed=1)
    assert model.training
    assert type(model) is type(plain)
    assert torch.equal(logits(model.eval()), logits(plain))
    found = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    path = blocks_path(plain)
    parts = {"gpt2": ["attn.c_attn"], "opt": ["self_attn.q_proj", "self_attn.v_proj"]}
    assert found == {
        f"{path}.{block}.{part}.lora_{side}.default.weight"
        for block in range(2)
        for part in parts.get(family, parts["opt"])
        for side in "AB"
    }
    assert len(transformer_blocks(model)) == 2
    states = trunk(model)(input_ids=tokens()).last_hidden_state
    torch.testing.assert_close(states @ model.get_output_embeddings().weight.T, logits(plain))


@pytest.mark.parametrize("family", sorted(TINY))
def test_adapter_weights_follow_the_seed_alone(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    network = Network(family, None, TINY[family], adapter=ADAPTER)

    def drawn(seed: int) -> list[Tensor]:
        model = build_network(network, tokenizer, seed)
        return [value for name, value in model.state_dict().items() if "lora_A" in name]

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = drawn(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn(1), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, drawn(2), strict=True))
    assert not torch.equal(first[0], first[-1])


@pytest.mark.parametrize("family", sorted(TINY))
def test_merging_is_lora_s_equation(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = trained(family, tokenizer)
    expected_logits, expected = logits(model), reference_weights(model)
    plain = build_network(Network(family, None, TINY[family]), tokenizer, seed=1).eval()
    assert not torch.allclose(logits(plain), expected_logits, atol=1e-3)
    shared = dict(model.state_dict())
    before = {name: value.clone() for name, value in shared.items()}
    merged = merge_adapter(model)
    assert adapter_of(merged) is None
    assert type(merged) is type(plain)
    assert all(parameter.requires_grad for parameter in merged.parameters())
    weights = merged.state_dict()
    assert weights.keys() == plain.state_dict().keys()
    for name, value in weights.items():
        torch.testing.assert_close(value.double(), expected[name], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(logits(merged), expected_logits, atol=1e-5, rtol=0)
    assert all(torch.equal(before[name], value) for name, value in shared.items())


@pytest.mark.parametrize("family", sorted(TINY))
def test_a_checkpoint_brings_its_adapter_merged(
    family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = trained(family, tokenizer)
    path = tmp_path / "last.ckpt"
    save_checkpoint(model, tokenizer, path)
    loaded = load_model(str(path)).eval()
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-5, rtol=0)
    assert adapter_of(loaded) is None
    on_top = build_network(Network(family, str(path), adapter=ADAPTER), tokenizer, 0).eval()
    assert adapter_of(on_top) == Adapter(
        4, 12, 0.0, ["c_attn"] if family == "gpt2" else ["q_proj", "v_proj"]
    )
    assert torch.equal(logits(on_top), logits(loaded))
    every = build_network(Network(family, str(path)), tokenizer, 0)
    assert all(parameter.requires_grad for parameter in every.parameters())


@pytest.fixture(params=sorted(TINY))
def base(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Path:
    """The folder of a tiny base model with its tokenizer."""
    model = build_network(Network(request.param, None, TINY[request.param]), tokenizer, seed=1)
    model.save_pretrained(tmp_path / request.param)
    tokenizer.save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def test_a_saved_adapter_is_peft_s_and_comes_back(
    base: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = trained(base.name, tokenizer)
    folder = tmp_path / "adapter"
    save_adapter(model, model.state_dict(), folder, str(base))
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    torch.testing.assert_close(logits(theirs.eval()), logits(model), atol=1e-5, rtol=0)
    ours = load_model(str(folder)).eval()
    assert not isinstance(ours, peft.PeftModel)
    assert adapter_of(ours) is None
    torch.testing.assert_close(logits(ours), logits(model), atol=1e-5, rtol=0)
    require_same_vocabulary(str(folder), tokenizer)


def test_somebody_else_s_adapter_is_merged_into_its_base(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = peft.LoraConfig(
        r=2,
        target_modules="all-linear",
        use_rslora=True,
        init_lora_weights=False,
        bias="all",
        modules_to_save=[{"gpt2": "ln_f", "opt": "final_layer_norm", "llama": "norm"}[base.name]],
    )
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "adapter")
    plain = load_model(str(base)).eval()
    ours = load_model(str(tmp_path / "adapter")).eval()
    assert not torch.allclose(logits(plain), logits(ours), atol=1e-3)
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=1e-5)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    assert all(parameter.requires_grad for parameter in ours.parameters())


def test_a_folder_that_is_no_lora_of_its_base_is_refused(
    base: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    save_adapter(trained(base.name, tokenizer), {}, folder, str(base))
    file = folder / "adapter_config.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    for change, message in (
        ({"base_model_name_or_path": None}, "names no base"),
        ({"peft_type": "IA3"}, "only LoRA"),
        ({"target_modules": ["nothing"]}, "does not fit its base"),
        ({"base_model_name_or_path": str(tmp_path / "gone")}, "gone does not exist"),
    ):
        changed = {**written, **change}
        if "peft_type" in change:
            changed = {"peft_type": "IA3", "base_model_name_or_path": str(base)}
        file.write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(UserError, match=message):
            load_model(str(folder))


@pytest.mark.parametrize("family", sorted(TINY))
def test_a_distillation_step_moves_adapters_alone(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    student = trained(family, tokenizer).train()
    lm = CausalLM(student, len(tokenizer))
    teacher = build_network(Network(family, None, TINY[family]), tokenizer, seed=7).eval()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    optimizer = build_optimizer(lm, OptimizerSettings(lr=1e-2))
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(held) == sum("lora_" in name for name in before)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-2]
    mask = torch.ones_like(tokens())

    def loss(weight: Tensor) -> Tensor:
        torch.manual_seed(0)
        with torch.no_grad():
            wide = CausalLM(teacher, len(tokenizer)).states(tokens(), mask).flatten(0, 1)
        step = KDStep(
            student_hidden=lm.states(tokens(), mask).flatten(0, 1),
            student_weight=weight,
            targets=tokens().flatten(),
            teachers=((wide, teacher.get_output_embeddings().weight),),
            vocabulary_size=len(tokenizer),
        )
        return ForwardKL()(step).total

    assert not lm.padded_head.weight.requires_grad
    value = loss(lm.padded_head.weight)
    # Backward reaches the hidden states and not the head.
    assert [edge[0] is None for edge in value.grad_fn.next_functions[:2]] == [False, True]
    value.backward()
    free = lm.padded_head.weight.detach().clone().requires_grad_()
    torch.testing.assert_close(loss(free), value)
    optimizer.step()
    for name, parameter in student.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name), name
    for name, after in student.state_dict().items():
        assert torch.equal(before[name], after) != ("lora_" in name), name


def test_mistakes_are_named(tokenizer: PreTrainedTokenizerFast) -> None:
    for values, message in (
        ({"r": 0}, "adapter.r is 0"),
        ({"alpha": 0}, "adapter.alpha is 0"),
        ({"dropout": 1.0}, "adapter.dropout is 1.0"),
        ({"targets": []}, "adapter.targets is empty"),
    ):
        with pytest.raises(UserError, match=message):
            Adapter(**values)
    for family, target, there in (
        ("gpt2", "q_proj", r"attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj"),
        ("opt", "project_out", r"self_attn.k_proj, .*fc2"),
        ("llama", "lm_head", r"self_attn.q_proj, .*mlp.down_proj"),
    ):
        network = Network(family, None, TINY[family], adapter=Adapter(targets=[target]))
        with pytest.raises(UserError, match=rf"no projection '{target}'; they have {there}"):
            build_network(network, tokenizer, 0)


def test_targets_may_be_named(tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_network(Network("gpt2", None, TINY["gpt2"]), tokenizer, 0)
    add_adapter(model, Adapter(targets=["mlp.c_proj", "c_fc"]), seed=0)
    adapted = {name for name, _ in model.named_parameters() if "lora_A" in name}
    assert adapted == {
        f"transformer.h.{block}.mlp.{part}.lora_A.default.weight"
        for block in range(2)
        for part in ("c_fc", "c_proj")
    }
