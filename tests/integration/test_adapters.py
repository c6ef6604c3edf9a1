"""Adapters in whole commands: teacher and student of each family, resume, and sharded weights."""

from dataclasses import dataclass
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from common.keys import key
from kd_privacy.cli import main
from kdmodules.models.adapters import Adapter
from kdmodules.models.checkpoints import WEIGHTS_PREFIX
from kdmodules.models.network import Network, build_network, load_model
from tests.integration.conftest import (
    SMALL_DATA,
    TRAINING,
    losses,
    same_bits,
    weights,
)
from tests.integration.test_resume import killer
from tests.processes import run_command

NETWORKS: dict[str, dict[str, int | float | bool | str]] = {
    "gpt2": {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 512},
    "opt": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 32,
        "word_embed_proj_dim": 16,
        "ffn_dim": 64,
        "max_position_embeddings": 512,
        "do_layer_norm_before": False,
    },
    "llama": {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
    },
}


@dataclass(frozen=True)
class Run:
    """One run of this file: its family, folder and seed."""

    family: str
    folder: Path
    seed: int


def arguments(run: Run, base: str, *technique: str) -> list[str]:
    family = f"families/{run.family}-tiny"
    names = [f"base/{base}", "data/builtin", family, "adapters/lora", *technique]
    options = NETWORKS[run.family].items()
    config = ", ".join(f"{name}: {str(value).lower()}" for name, value in options)
    return [
        "fit",
        *[part for name in names for part in ("-c", f"configs/{name}.yaml")],
        f"--model.network.config={{{config}}}",
        *SMALL_DATA,
        *TRAINING,
        "--trainer.max_steps=6",
        f"--seed_everything={run.seed}",
        f"--run_dir={run.folder}",
    ]


def as_started(run: Run, adapter: Adapter | None) -> PreTrainedModel:
    """The network of a run before its first step."""
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "export")
    network = Network(run.family, None, NETWORKS[run.family], adapter=adapter)
    return build_network(network, tokenizer, key(run.seed, "weights"))


def logits(model: PreTrainedModel | peft.PeftModel) -> Tensor:
    with torch.no_grad():
        return model.eval()(torch.arange(40).reshape(2, 20) * 11 % 512).logits


def assert_exported(run: Run) -> None:
    """The trained network, its export, its adapter on its base and its checkpoint are one."""
    trained = as_started(run, Adapter())
    saved = weights(run.folder)
    for name, start in trained.state_dict().items():
        moved = not torch.equal(start, saved[WEIGHTS_PREFIX + name])
        assert moved == ("lora_" in name), name
    trained.load_state_dict({n.removeprefix(WEIGHTS_PREFIX): v for n, v in saved.items()})
    expected = logits(trained)
    plain = as_started(run, None)
    assert not torch.allclose(logits(plain), expected, atol=1e-4)

    merged = AutoModelForCausalLM.from_pretrained(run.folder / "export")
    assert merged.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(logits(merged), expected, atol=1e-5, rtol=0)
    from_checkpoint = load_model(str(run.folder / "checkpoints" / "last.ckpt"))
    assert same_bits(dict(merged.state_dict()), dict(from_checkpoint.state_dict()))

    plain.save_pretrained(run.folder / "base")
    base = AutoModelForCausalLM.from_pretrained(run.folder / "base")
    adapted = peft.PeftModel.from_pretrained(base, run.folder / "export" / "adapter")
    torch.testing.assert_close(logits(adapted), expected, atol=1e-5, rtol=0)
    card = (run.folder / "export" / "README.md").read_text(encoding="utf-8")
    assert "Only a LoRA adapter was trained (r 16, alpha 64, dropout 0.1 on " in card


# The network of each family with an adapter: tests/kdmodules/models/test_adapters.py.
@pytest.mark.parametrize(
    "family",
    [
        "gpt2",
        pytest.param("llama", marks=pytest.mark.slow),
        pytest.param("opt", marks=pytest.mark.slow),
    ],
)
def test_a_teacher_and_its_student_train_adapters_alone(family: str, tmp_path: Path) -> None:
    teacher = Run(family, tmp_path / "teacher", seed=0)
    main(arguments(teacher, "teacher"))
    assert_exported(teacher)
    # Another base than the teacher's, that there is something to learn.
    student = Run(family, tmp_path / "student", seed=1)
    source = f"--model.teacher={teacher.folder / 'checkpoints' / 'last.ckpt'}"
    main([*arguments(student, "student", "techniques/kd"), source])
    assert_exported(student)
    assert len(losses(student.folder)) == 6


@pytest.mark.slow
def test_a_killed_adapter_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, broken = (Run("llama", tmp_path / name, seed=0) for name in ("whole", "broken"))
    every = "--recovery.save_every_n_steps=1"
    finished = run_command([*arguments(whole, "teacher"), every])
    assert finished.returncode == 0, finished.stderr
    killed = run_command([*arguments(broken, "teacher"), every, *killer(4)])
    assert killed.returncode == -9, killed.stderr
    resumed = run_command([*arguments(broken, "teacher"), every, "--ckpt_path=last"])
    assert resumed.returncode == 0, resumed.stderr
    assert same_bits(weights(whole.folder), weights(broken.folder))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_train_and_export_the_adapter_of_one(strategy: str, tmp_path: Path) -> None:
    one, two = (Run("llama", tmp_path / name, seed=0) for name in ("one", "two"))
    # Ranks draw dropout of their own.
    still = "--model.network.adapter.dropout=0"
    main([*arguments(one, "teacher"), still])
    several = ["--trainer.devices=2", "-c", f"configs/trainers/{strategy}.yaml"]
    finished = run_command([*arguments(two, "teacher"), still, *several], ranks=2)
    assert finished.returncode == 0, finished.stderr
    assert losses(two.folder) == pytest.approx(losses(one.folder), abs=1e-5)
    for name, value in weights(one.folder).items():
        torch.testing.assert_close(weights(two.folder)[name], value, atol=2e-4, rtol=1e-3)
    exported = AutoModelForCausalLM.from_pretrained(two.folder / "export")
    checkpoint = load_model(str(two.folder / "checkpoints" / "last.ckpt"))
    assert same_bits(dict(exported.state_dict()), dict(checkpoint.state_dict()))
    as_started(one, None).save_pretrained(one.folder / "base")
    base = AutoModelForCausalLM.from_pretrained(one.folder / "base")
    adapted = peft.PeftModel.from_pretrained(base, two.folder / "export" / "adapter")
    torch.testing.assert_close(logits(adapted), logits(exported), atol=1e-5, rtol=0)
