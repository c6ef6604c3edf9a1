"""Recipes of the published pairs against the published tables of rates, batches and epochs."""

import pytest
from lightning.pytorch.cli import LightningArgumentParser

from common.errors import UserError
from datamodules import InstructionDataModule
from studies.plan.settings import Settings
from studies.run.checks import global_batch
from tests.configs.conftest import CONFIGS, build, compose, read_fragment

STUDENTS = (
    ("gpt2-large", "gpt2-medium", "gpt2-base"),
    ("opt-1.3b", "opt-350m", "opt-125m"),
    ("open_llama-3b",),
)
BY_SIZE = (4, 8, 16)

# Folder: epochs, then for GPT-2, OPT and LLaMA the learning rate and the batch by size.
TABLE = {
    "init": (3, (5e-4, BY_SIZE), (5e-5, BY_SIZE), (5e-4, (8,))),
    "control": (5, (5e-5, (4, 4, 4)), (5e-5, (4, 4, 4)), (5e-4, (8,))),
    "kd": (10, (5e-5, BY_SIZE), (5e-5, BY_SIZE), (1e-5, (4,))),
    "seqkd": (10, (5e-4, BY_SIZE), (5e-5, BY_SIZE), (5e-4, (8,))),
    "imitkd": (10, (5e-4, (4, 4, 4)), (5e-5, BY_SIZE), (5e-4, (8,))),
    "gkd": (10, (5e-4, (8, 8, 8)), (5e-5, BY_SIZE), (5e-4, (8,))),
    "distillm": (10, (1e-4, (4, 4, 4)), (5e-5, BY_SIZE), (5e-4, (8,))),
}
VARIANTS = {
    "seqkd_soft": "seqkd",
    "seqkd_beam": "seqkd",
    "imitkd_paper": "imitkd",
    "distillm_sfkl": "distillm",
}
# "As init, longer": as long as the teacher of the family.
OTHER_EPOCHS = {("control", "open_llama-3b"): 20}
# With the loss on plain text, beside the techniques that set it themselves.
WITH_TEXT = {
    *((folder, size) for folder in ("kd", "seqkd", "seqkd_soft", "gkd") for size in STUDENTS[1]),
    ("gkd", "open_llama-3b"),
}
TEACHERS = {
    "gpt2-xl": (5e-5, 4, 5),
    "opt-2.7b": (5e-5, 4, 5),
    "open_llama-7b": (5e-4, 8, 20),
    "llama-2-7b": (5e-4, 8, 20),
}


def figures(folder: str, family: str) -> tuple[float, int, int]:
    """Learning rate, global batch and epochs of a recipe."""
    recipe = read_fragment(f"recipes/{folder}/{family}")
    return (
        recipe["model"]["init_args"]["optimizer"]["lr"],
        recipe["data"]["init_args"]["batch_size"],
        recipe["trainer"]["max_epochs"],
    )


@pytest.mark.parametrize("folder", [*TABLE, *VARIANTS])
def test_students(folder: str) -> None:
    epochs, *columns = TABLE[VARIANTS.get(folder, folder)]
    for students, column in zip(STUDENTS, columns, strict=True):
        rate, batches = column
        for student, batch in zip(students, batches, strict=True):
            length = OTHER_EPOCHS.get((folder, student), epochs)
            assert figures(folder, student) == (rate, batch, length), student


def test_teachers() -> None:
    assert {name: figures("teacher", name) for name in TEACHERS} == TEACHERS


def test_llama_kd_mixes_in_the_cross_entropy() -> None:
    recipe = read_fragment("recipes/kd/open_llama-3b")
    assert recipe["model"]["init_args"]["reduction"] == {"kd_ratio": 0.5}


@pytest.mark.parametrize("student", [name for family in STUDENTS for name in family])
def test_minillm(student: str) -> None:
    recipe = read_fragment(f"recipes/minillm/{student}")
    assert recipe["model"]["init_args"]["optimizer"] == {
        "lr": 5e-6,
        "betas": [0.9, 0.95],
        "weight_decay": 1e-6,
        "schedule": "constant",
        "warmup_steps": 100,
    }
    assert recipe["data"]["init_args"]["batch_size"] == 64
    assert recipe["trainer"] == {"max_steps": 5000}


def test_the_loss_on_plain_text_is_where_the_published_runs_had_it() -> None:
    found = set()
    for path in (CONFIGS / "recipes").glob("*/*.yaml"):
        recipe = read_fragment(str(path.relative_to(CONFIGS).with_suffix("")))
        coefficient = recipe["model"]["init_args"].get("lm_coef")
        assert coefficient in (None, 1.0), path
        if coefficient is not None:
            found.add((path.parent.name, path.stem))
            heading = path.read_text(encoding="utf-8").partition("model:")[0]
            assert "--model.plain_text.sources" in heading, path
    assert found == WITH_TEXT


def test_every_recipe_states_its_global_batch() -> None:
    for path in (CONFIGS / "recipes").glob("*/*.yaml"):
        recipe = read_fragment(str(path.relative_to(CONFIGS).with_suffix("")))
        assert recipe["data"]["init_args"]["batch_size"] >= 1, path
        assert "accumulate_grad_batches" not in recipe["trainer"], path


@pytest.mark.parametrize(("technique", "batch"), [("distillm", 4), ("kd", 16)])
def test_the_published_global_batch(
    parser: LightningArgumentParser, technique: str, batch: int
) -> None:
    listed = ["base/student", "data/dolly", "data/openwebtext", "families/gpt2-base"]
    listed += [f"techniques/{technique}", f"recipes/{technique}/gpt2-base"]
    assert build(parser, compose(parser, *listed)).data.batch_size == batch
    laid_over = build(parser, compose(parser, *listed, "data/published_batch"))
    assert laid_over.data.batch_size == 16 * batch


def test_estimates_know_the_published_global_batch() -> None:
    given = {"data": {"batch_size": 8, "published_devices": 4}}
    assert global_batch(Settings(given)) == 32
    with pytest.raises(UserError, match="published_devices is 0: give at least 1"):
        InstructionDataModule(published_devices=0)


def test_heads_say_which_batch_is_published() -> None:
    for folder in ("init", "kd", "seqkd", "imitkd", "gkd", "distillm"):
        for student in [name for family in STUDENTS for name in family]:
            text = (CONFIGS / f"recipes/{folder}/{student}.yaml").read_text(encoding="utf-8")
            head = text.partition("model:")[0]
            assert "published_batch.yaml" in head, (folder, student)
            assert "DistiLLM's own script" in head, (folder, student)
