"""Peak memory of a few training steps, measured in a process of its own.

`benchmarks.estimates` starts it; alone it does nothing of use. A Lightning fit as `kd-privacy` runs
it, on the CPU, with records that fill every batch to its last token. What a first fit of a model of
one block leaves behind is there before; the peak is the kernel's high-water mark of the resident
set above that. Linux and glibc only; see `benchmarks.scoring_memory` for why glibc's limit of
mapped blocks is held.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from transformers import PreTrainedTokenizerBase

from benchmarks.scoring_memory import MAPPED_BYTES, resident_bytes, settle
from datamodules.batches import InstructionBatch
from datamodules.instruction import InstructionDataModule
from datamodules.split_options import Fractions, SplitOptions
from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from kd_privacy.cli import TRAINER_DEFAULTS
from kdmodules import StudentModule, SupervisedModule
from kdmodules.language_model import LanguageModelModule
from kdmodules.losses import ForwardKL
from kdmodules.models.network import Network, build_network
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import DatasetResponses

STEPS = 3
# Responses of the built-in corpus that make a prompt or a response of more than 512 tokens.
RECORDS, JOINED = 60, 16
TRAINED_VOCABULARY = 1024
FRACTIONS = Fractions(private=0.1, held_out=0.1, public=0.7, never=0.0, development=0.1)


@dataclass(frozen=True)
class Case:
    """One measured fit.

    Attributes:
        name: Heading of its row.
        family: gpt2, opt or llama.
        student: The trained network's configuration, without its vocabulary.
        teacher: The teacher's; None trains without one.
        vocabulary: Rows of both heads.
        records: Records of a batch.
        tokens: Tokens of every record, half of them a prompt.
        recomputed: Whether the blocks' activations are computed again in the backward pass.
    """

    name: str
    family: str
    student: dict[str, Any]
    teacher: dict[str, Any] | None
    vocabulary: int
    records: int
    tokens: int
    recomputed: bool = False


@dataclass(frozen=True)
class Peak:
    """What a fit took.

    Attributes:
        megabytes: High-water mark above the start, 10^6 bytes.
        tokens: Tokens of the largest batch, padding included.
        scored: Most scored tokens of a batch.
        seconds: Time of the fit.
    """

    megabytes: float
    tokens: int
    scored: int
    seconds: float


class _Shapes(Callback):
    """Notes the largest batch."""

    def __init__(self) -> None:
        self.tokens = self.scored = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: InstructionBatch, batch_idx: int
    ) -> None:
        self.tokens = max(self.tokens, batch.input_ids.numel())
        self.scored = max(self.scored, int(batch.response_mask.sum()))


def prepare(case: Case, folder: Path) -> None:
    """Writes records whose prompt and response are longer than the case's, and both models."""
    tokenizer = prepare_texts(case.vocabulary, folder)
    _save(case.family, case.student, tokenizer, folder / "student")
    if case.teacher is not None:
        _save(case.family, case.teacher, tokenizer, folder / "teacher")


def prepare_texts(vocabulary: int, folder: Path) -> PreTrainedTokenizerBase:
    """Writes ``records.jsonl``, prompts and responses of more than 512 tokens each.

    Args:
        vocabulary: Tokens of the tokenizer; most of them no text uses.
        folder: Where to.

    Returns:
        The tokenizer, trained on the texts.
    """
    corpus = [one.response for one in generate_records(2 * JOINED * RECORDS, seed=1)]
    texts = [" ".join(corpus[start::RECORDS]) for start in range(RECORDS)]
    lines = [_line(text[: len(text) // 2], text[len(text) // 2 :]) for text in texts]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    tokenizer = train_tokenizer(corpus, TRAINED_VOCABULARY)
    tokenizer.add_tokens([f"<unused {i}>" for i in range(vocabulary - TRAINED_VOCABULARY)])
    return tokenizer


def _line(prompt: str, response: str) -> str:
    row = {"instruction": prompt, "context": "", "response": response, "category": "open_qa"}
    return json.dumps(row)


def _save(
    family: str, config: dict[str, Any], tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    build_network(Network(family, config=config), tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fit(case: Case, folder: Path) -> _Shapes:
    """Trains for a few steps."""
    shapes = _Shapes()
    data = InstructionDataModule(
        source=str(folder / "records.jsonl"),
        template="alpaca",
        tokenizer=str(folder / "student"),
        splits=SplitOptions(fractions=FRACTIONS, min_records=1),
        batch_size=case.records,
        max_prompt_tokens=case.tokens // 2,
        max_tokens=case.tokens,
    )
    options: dict[str, Any] = {
        **TRAINER_DEFAULTS,
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": STEPS,
        "limit_val_batches": 0,
        "logger": False,
        "default_root_dir": folder,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "callbacks": [shapes],
    }
    Trainer(**options).fit(_module(case, folder), datamodule=data)
    return shapes


def _module(case: Case, folder: Path) -> LanguageModelModule:
    network = Network(
        case.family,
        source=str(folder / "student"),
        activation_checkpointing=case.recomputed,
    )
    optimizer = OptimizerSettings()
    if case.teacher is None:
        return SupervisedModule("public", network, optimizer)
    teacher = str(folder / "teacher")
    return StudentModule(network, optimizer, teacher, ForwardKL(), DatasetResponses())


def measure(case: Case, folder: Path) -> Peak:
    """Measures a prepared case in this process."""
    small = Case("", "gpt2", {"n_layer": 1, "n_embd": 32, "n_head": 2}, None, 1024, 2, 256)
    if case.teacher is not None:
        small = Case(**{**asdict(small), "teacher": small.student})
    with tempfile.TemporaryDirectory() as name:
        prepare(small, Path(name))
        fit(small, Path(name))
    settle()
    start, began = resident_bytes("VmRSS"), time.perf_counter()
    shapes = fit(case, folder)
    peak = (resident_bytes("VmHWM") - start) / 1e6
    return Peak(peak, shapes.tokens, shapes.scored, time.perf_counter() - began)


def in_fresh_process(case: Case, report: Callable[[str], None]) -> Peak:
    """Prepares a case in one process and measures it in another, both on one thread.

    Raises:
        RuntimeError: A process failed.
    """
    report(case.name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "case.json").write_text(json.dumps(asdict(case)))
        for step in ("prepare", "measure"):
            printed = _run(folder, step)
    return Peak(**json.loads(printed))


def _run(folder: Path, step: str) -> str:
    command = [sys.executable, "-m", "benchmarks.training_memory", str(folder), step]
    held = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(MAPPED_BYTES)}
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        command, cwd=root, env=os.environ | held, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{folder}, {step}: failed:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


def main() -> None:
    """Does one step of `in_fresh_process`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("step", choices=["prepare", "measure"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = Case(**json.loads((options.folder / "case.json").read_text()))
    if options.step == "prepare":
        prepare(case, options.folder)
    else:
        sys.stdout.write(json.dumps(asdict(measure(case, options.folder))) + "\n")


if __name__ == "__main__":
    main()
