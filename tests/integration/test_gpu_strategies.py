"""Every strategy on the accelerators of this machine: the losses of one process on its CPU."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.integration.conftest import fragments, losses, run_process, weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator"),
]
STRATEGIES = ("gpu", "ddp", "fsdp", "fsdp2", "deepspeed_2")


def arguments(teacher: Path, run_dir: Path) -> list[str]:
    return [
        *fragments("student", "techniques/kd", "audits/membership", "audits/utility"),
        f"--model.teacher={teacher / 'export'}",
        "--trainer.max_epochs=1",
        f"--run_dir={run_dir}",
    ]


@pytest.fixture(scope="module")
def alone(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    finished = run_process(arguments(teacher, run_dir))
    assert finished.returncode == 0, finished.stderr
    return run_dir


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_student_trains_is_audited_and_exported(
    strategy: str, alone: Path, teacher: Path, tmp_path: Path
) -> None:
    if strategy.startswith("deepspeed") and find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    devices = 1 if strategy == "gpu" else torch.cuda.device_count()
    chosen = [
        *("-c", f"configs/trainers/{strategy}.yaml", "--trainer.accelerator=gpu"),
        *(f"--trainer.devices={devices}", "--trainer.precision=32-true"),
    ]
    finished = run_process([*arguments(teacher, tmp_path), *chosen], timeout_s=600)
    assert finished.returncode == 0, finished.stderr
    assert losses(tmp_path) == pytest.approx(losses(alone), abs=1e-4)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "export").state_dict()
    for name, value in weights(alone).items():
        own = exported[name.removeprefix("lm.model.")]
        torch.testing.assert_close(own, value, atol=1e-3, rtol=1e-2)


def test_an_offloaded_teacher_in_bfloat16_teaches(teacher: Path, tmp_path: Path) -> None:
    chosen = [
        *("-c", "configs/trainers/fsdp2.yaml", "--trainer.accelerator=gpu"),
        f"--trainer.devices={torch.cuda.device_count()}",
        "--trainer.precision=bf16-mixed",
        "--model.teacher_weights.precision=bfloat16",
        "--model.teacher_weights.offload=true",
        "--model.network.activation_checkpointing=true",
        "--model.network.compiled=true",
    ]
    finished = run_process([*arguments(teacher, tmp_path), *chosen], timeout_s=600)
    assert finished.returncode == 0, finished.stderr
    found = losses(tmp_path)
    assert found[-1] < found[0]
