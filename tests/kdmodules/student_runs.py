"""Whole students at toy size: built-in records, a random teacher, Lightning's own trainer."""

from pathlib import Path

import lightning.pytorch as pl

from datamodules.instruction import InstructionDataModule
from datamodules.split_options import SplitOptions
from kdmodules.losses import ForwardKL, KDLoss
from kdmodules.models.network import Network, build_network
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import ResponseSource
from kdmodules.student import StudentModule
from kdmodules.teacher_cache import TeacherCache

CONFIG = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 512}
NO_DROPOUT = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
TRAINER = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
    "log_every_n_steps": 1,
}


def make_data(folder: Path, **options: object) -> InstructionDataModule:
    """The built-in corpus at its smallest, with its manifest in ``folder / "private"``."""
    defaults = {
        "n_records": 210,
        "template": "alpaca",
        "vocabulary": 400,
        "batch_size": 6,
        "splits": SplitOptions(seed=3),
        "manifest_folder": str(folder / "private"),
    }
    return InstructionDataModule(**{**defaults, **options})


def write_teacher(folder: Path, data: InstructionDataModule, seed: int = 5) -> str:
    """Saves a random teacher with the data's tokenizer, and returns its folder."""
    data.setup("fit")
    model = build_network(Network("gpt2", None, {**CONFIG, **NO_DROPOUT}), data.tokenizer, seed)
    path = folder / f"teacher-{seed}"
    model.save_pretrained(path)
    data.tokenizer.save_pretrained(path)
    return str(path)


def make_student(
    teacher: str | list[str],
    responses: ResponseSource,
    kd_loss: KDLoss | None = None,
    dropout: float = 0.0,
    cache: TeacherCache | None = None,
) -> StudentModule:
    """A student of the teacher's size and vocabulary."""
    config = {**CONFIG, **dict.fromkeys(NO_DROPOUT, dropout)}
    return StudentModule(
        Network("gpt2", None, config),
        OptimizerSettings(lr=2e-3),
        teacher,
        kd_loss or ForwardKL(),
        responses,
        seed=1,
        teacher_cache=cache,
    )


def make_trainer(folder: Path, **options: object) -> pl.Trainer:
    """A trainer on the CPU that writes nothing by itself."""
    defaults = {**TRAINER, "default_root_dir": str(folder), "enable_checkpointing": False}
    return pl.Trainer(**{**defaults, **options})
