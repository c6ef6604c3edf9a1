"""Training steps of published pairs with random weights, by the Lightning fit of `kd-privacy`."""

import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, Trainer

from benchmarks.gpu_device import Device
from benchmarks.training_memory import FRACTIONS, prepare_texts
from datamodules.batches import InstructionBatch
from datamodules.instruction import InstructionDataModule
from datamodules.split_options import SplitOptions
from kd_privacy.cli import TRAINER_DEFAULTS
from kdmodules import StudentModule, SupervisedModule
from kdmodules.language_model import LanguageModelModule
from kdmodules.losses import ForwardKL
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.flops import ModelCost, PassSize
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import DatasetResponses
from kdmodules.teachers import TeacherWeights
from studies.run.estimates.networks import NetworkSpec

FAMILIES = Path(__file__).parents[1] / "configs" / "families"
WARM_UP = 3
# Weight, gradient and both moments in float32; a frozen teacher in bfloat16.
TRAINED_BYTES, FROZEN_BYTES = 16, 2
# Activations, logits in chunks, and what the allocator cannot use.
HEADROOM = 1.15


@dataclass(frozen=True)
class Pair:
    """A teacher and its student by their family fragments.

    Attributes:
        teacher: Stem of the teacher's fragment.
        student: Stem of the student's.
        recomputed: Whether blocks compute their activations again in the backward pass.
    """

    teacher: str
    student: str
    recomputed: bool = False


PAIRS = {
    "gpt2-xl to gpt2-base": Pair("gpt2-xl", "gpt2-base"),
    "llama 7B to open 3B": Pair("open_llama-7b", "open_llama-3b", recomputed=True),
    "tiny": Pair("gpt2-mini", "gpt2-tiny"),
}


@dataclass(frozen=True)
class Step:
    """What a training step costs.

    Attributes:
        name: What is trained.
        seconds: Median of a whole step: teacher, forward, backward, clipping, AdamW, logging.
        scored: Scored tokens of a step.
        tokens: Tokens that are read.
        operations: Floating-point operations that the models need, by arithmetic.
        peak_bytes: Most memory that was held; None on a CPU.
        skipped: Why it was not run; empty where it was.
    """

    name: str
    seconds: float = float("nan")
    scored: int = 0
    tokens: int = 0
    operations: float = float("nan")
    peak_bytes: int | None = None
    skipped: str = ""


class _Steps(Callback):
    """Times each step to its end on the device, and notes the largest batch."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self.size = PassSize(0, 0, 0)
        self._began = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: InstructionBatch, batch_idx: int
    ) -> None:
        """Begins a step; the first timed one begins the count of memory."""
        self.size = max(self.size, PassSize.of(batch), key=lambda size: size.tokens)
        self.device.wait()
        if len(self.seconds) == WARM_UP and self.device.is_gpu:
            torch.cuda.reset_peak_memory_stats()
        self._began = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        """Ends a step."""
        self.device.wait()
        self.seconds.append(time.perf_counter() - self._began)


@dataclass(frozen=True)
class Setting:
    """How steps are taken.

    Attributes:
        records: Records of a batch.
        tokens: Tokens of a record, half of them prompt.
        steps: Timed steps.
        precision: Lightning's.
    """

    records: int
    tokens: int
    steps: int
    precision: str


def vocabulary_of(spec: NetworkSpec) -> int:
    """Returns the rows of a network's embedding."""
    return int(json.loads(spec.config)["vocab_size"])


def spec_of(stem: str) -> NetworkSpec:
    """Returns the network of a family's fragment, every weight trained."""
    content = yaml.safe_load((FAMILIES / f"{stem}.yaml").read_text(encoding="utf-8"))
    network = content["model"]["init_args"]["network"]
    # A fragment of a scratch network leaves the vocabulary to the tokenizer.
    config = {"vocab_size": 2048, **network["config"]}
    return NetworkSpec(network["family"], json.dumps(config, sort_keys=True))


def needed_bytes(spec: NetworkSpec, teacher: NetworkSpec | None) -> float:
    """Returns what training a network takes, with some room for activations."""
    own = TRAINED_BYTES * spec.figures().parameters
    return HEADROOM * (own + (FROZEN_BYTES * teacher.figures().parameters if teacher else 0))


def measure_step(name: str, pair: Pair, device: Device, setting: Setting, distil: bool) -> Step:
    """Runs a few steps of a teacher's fine-tuning, or of its student's distillation.

    Args:
        name: Of the row.
        pair: The models.
        device: Where.
        setting: Batch and precision.
        distil: Whether the student is distilled (KD); else the teacher is fine-tuned.
    """
    trained = spec_of(pair.student if distil else pair.teacher)
    teacher = spec_of(pair.teacher) if distil else None
    device.release()
    needed, free = needed_bytes(trained, teacher), device.free_bytes
    if free is not None and needed > free:
        return Step(name, skipped=f"needs {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free")
    with tempfile.TemporaryDirectory() as folder:
        return _fit(name, trained, teacher, pair.recomputed, device, setting, Path(folder))


def _fit(
    name: str,
    trained: NetworkSpec,
    teacher: NetworkSpec | None,
    recomputed: bool,
    device: Device,
    setting: Setting,
    folder: Path,
) -> Step:
    vocabulary = vocabulary_of(trained)
    options = {
        key: value for key, value in json.loads(trained.config).items() if key != "vocab_size"
    }
    prepare_texts(vocabulary, folder).save_pretrained(folder / "tokenizer")
    network = Network(
        trained.family,
        config=options,
        activation_checkpointing=recomputed,
    )
    module = _module(network, teacher, device)
    steps = _Steps(device)
    data = InstructionDataModule(
        source=str(folder / "records.jsonl"),
        template="alpaca",
        tokenizer=str(folder / "tokenizer"),
        splits=SplitOptions(fractions=FRACTIONS, min_records=1),
        batch_size=setting.records,
        max_prompt_tokens=setting.tokens // 2,
        max_tokens=setting.tokens,
    )
    trainer: dict[str, Any] = {
        **TRAINER_DEFAULTS,
        "accelerator": "gpu" if device.is_gpu else "cpu",
        "devices": 1,
        "precision": setting.precision,
        "max_steps": WARM_UP + setting.steps,
        "limit_val_batches": 0,
        "logger": False,
        "default_root_dir": folder,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "callbacks": [steps],
    }
    Trainer(**trainer).fit(module, datamodule=data)
    operations = ModelCost.of(module.language_model).training(steps.size)
    if isinstance(module, StudentModule):
        operations += ModelCost.of(module.teachers.models[0]).forward(steps.size)
    return Step(
        name,
        statistics.median(steps.seconds[WARM_UP:]),
        steps.size.scored,
        steps.size.tokens,
        operations,
        torch.cuda.max_memory_allocated() if device.is_gpu else None,
    )


def _module(network: Network, teacher: NetworkSpec | None, device: Device) -> LanguageModelModule:
    optimizer = OptimizerSettings()
    if teacher is None:
        return SupervisedModule("public", network, optimizer)
    student = StudentModule(
        network,
        optimizer,
        "random weights",
        ForwardKL(),
        DatasetResponses(),
        teacher_weights=TeacherWeights("bfloat16"),
    )
    # Random weights need not go through a folder, which would be 27 GB of a 7 B teacher.
    model = teacher.build(device.name).to(torch.bfloat16)
    lm = CausalLM(model, vocabulary_of(teacher))
    student.teachers.models = (lm.requires_grad_(False).eval(),)
    return student
