"""One distillation step as a user of this project takes it: a Lightning fit with its logger on.

`Workplace` holds what every way starts from, on disk: records, tokenizer, student and teacher.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from transformers import PreTrainedTokenizerBase

from benchmarks.scoring import load_or_train_tokenizer, load_records
from datamodules.batches import EncodedRecord, InstructionBatch, RecordEncoder
from datamodules.instruction import InstructionDataModule
from datamodules.records import InstructionRecord
from datamodules.split_options import Fractions, SplitOptions
from kd_privacy.cli import TRAINER_DEFAULTS
from kdmodules import StudentModule
from kdmodules.losses import JensenShannon
from kdmodules.models.network import Network, build_network
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import DatasetResponses, StudentResponses
from kdmodules.responses.rewriting import records_of
from kdmodules.sampling.sampler import SamplingSettings

PROMPT_TOKENS = RESPONSE_TOKENS = 256
FRACTIONS = Fractions(private=0.05, held_out=0.05, public=0.85, never=0.0, development=0.05)


@dataclass(frozen=True)
class Case:
    """What a step computes, the same for every way.

    Attributes:
        name: Heading of its rows.
        beta: Teacher's weight in the generalised JSD; 0 is the forward KL.
        on_policy: Whether the student writes the responses at every step.
        target: Most that our time may be of TRL's.
        batch_size: Records.
        new_tokens: Longest response of the student.
        temperature: Divides the student's logits when it samples; 0.9 is TRL's default.
        lr: AdamW's learning rate, constant; TRL's default.
    """

    name: str
    beta: float
    on_policy: bool
    target: float
    batch_size: int = 4
    new_tokens: int = 64
    temperature: float = 0.9
    lr: float = 2e-5


@dataclass(frozen=True)
class Run:
    """One fit of one way.

    Attributes:
        seconds: Time between the ends of consecutive optimiser steps; the first step is left out.
        losses: Logged loss of every step, the first included.
        batches: Records of every step as served, the first step's included.
    """

    seconds: list[float]
    losses: list[float]
    batches: list[list[EncodedRecord]]


@dataclass(frozen=True)
class Workplace:
    """What a run needs, under one folder: `records.jsonl`, `student/` and `teacher/`.

    Both models are GPT-2-shaped, seeded, without dropout, and saved with their tokenizer.
    """

    folder: Path

    @property
    def records(self) -> Path:
        """The records, one JSON object a line."""
        return self.folder / "records.jsonl"

    @property
    def student(self) -> Path:
        """The student's `save_pretrained` folder."""
        return self.folder / "student"

    @property
    def teacher(self) -> Path:
        """The teacher's `save_pretrained` folder."""
        return self.folder / "teacher"


def prepare(
    folder: Path,
    source: str | None,
    tokenizer_source: str | None,
    n_records: int,
    vocabulary: int,
    shapes: tuple[tuple[int, int, int], tuple[int, int, int]],
) -> Workplace:
    """Writes records and models.

    Args:
        folder: An empty folder.
        source: Records; None takes the built-in corpus.
        tokenizer_source: Tokenizer; None trains a small one and fills it up with unused tokens.
        n_records: Records to read; those whose response is longer than 256 tokens are left out.
        vocabulary: Rows of both heads where the tokenizer is trained here.
        shapes: Layers, width and heads of the student and of the teacher.
    """
    records = load_records(source, n_records)
    tokenizer = load_or_train_tokenizer(tokenizer_source, records)
    missing = 0 if tokenizer_source else vocabulary - len(tokenizer)
    tokenizer.add_tokens([f"<unused {i}>" for i in range(missing)])
    place = Workplace(folder)
    lines = [json.dumps(_row(record)) for record in _short(records, tokenizer)]
    place.records.write_text("\n".join(lines) + "\n")
    for seed, (path, shape) in enumerate(zip((place.student, place.teacher), shapes, strict=True)):
        build_network(_scratch(shape), tokenizer, seed).save_pretrained(path)
        tokenizer.save_pretrained(path)
    return place


def _short(
    records: Sequence[InstructionRecord], tokenizer: PreTrainedTokenizerBase
) -> list[InstructionRecord]:
    encoder = RecordEncoder(tokenizer, max_prompt_tokens=PROMPT_TOKENS, max_tokens=2**20)
    pairs = zip(records, encoder.encode_all(records), strict=True)
    return [r for r, encoded in pairs if 0 < len(encoded.response_ids) <= RESPONSE_TOKENS]


def _row(record: InstructionRecord) -> dict[str, str]:
    row = {name: getattr(record, name) for name in ("instruction", "context", "response")}
    return {**row, "category": record.task}


def _scratch(shape: tuple[int, int, int]) -> Network:
    n_layer, n_embd, n_head = shape
    sizes = {"n_layer": n_layer, "n_embd": n_embd, "n_head": n_head, "n_positions": 1024}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return Network("gpt2", config={**sizes, **dropout})


class StepClock(Callback):
    """Notes the batch that a step is served, the end of the step, and the loss that it logged."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []
        self.batches: list[list[EncodedRecord]] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: InstructionBatch, batch_idx: int
    ) -> None:
        """Keeps the records, before a response source replaces their responses."""
        self.batches.append(records_of(batch))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reads the clock."""
        self.ends.append(time.perf_counter())
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def run(self) -> Run:
        """What was noted."""
        return Run(intervals(self.ends), self.losses, self.batches)


def intervals(times: Sequence[float]) -> list[float]:
    """Differences of consecutive times."""
    return [b - a for a, b in zip(times, times[1:], strict=False)]


def fit(case: Case, place: Workplace, steps: int, seed: int) -> Run:
    """Runs one more optimiser step than are timed, on batches that the seed decides."""
    sampling = SamplingSettings(max_new_tokens=case.new_tokens, temperature=case.temperature)
    module = StudentModule(
        network=Network("gpt2", source=str(place.student)),
        optimizer=OptimizerSettings(lr=case.lr, weight_decay=0.0, schedule="constant"),
        teacher=str(place.teacher),
        kd_loss=JensenShannon(case.beta),
        responses=StudentResponses(sampling) if case.on_policy else DatasetResponses(),
        seed=seed,
    )
    data = InstructionDataModule(
        source=str(place.records),
        template="alpaca",
        tokenizer=str(place.student),
        splits=SplitOptions(fractions=FRACTIONS, min_records=1),
        batch_size=case.batch_size,
        max_prompt_tokens=PROMPT_TOKENS,
        max_tokens=PROMPT_TOKENS + RESPONSE_TOKENS,
        seed=seed,
    )
    clock = StepClock()
    options: dict[str, Any] = {
        **TRAINER_DEFAULTS,
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": steps + 1,
        "limit_val_batches": 0,
        "log_every_n_steps": 1,
        "logger": TensorBoardLogger(place.folder, name="ours"),
        "default_root_dir": place.folder,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "callbacks": [clock],
    }
    trainer = Trainer(**options)
    trainer.fit(module, datamodule=data)
    return clock.run()
