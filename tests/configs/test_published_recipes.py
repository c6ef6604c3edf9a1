"""Recipes of the published pairs against the tables of techniques.md, sections 2, 4 and 6."""

import pytest

from tests.configs.conftest import CONFIGS, read_fragment

STUDENTS = (
    ("gpt2-large", "gpt2-medium", "gpt2-base"),
    ("opt-1.3b", "opt-350m", "opt-125m"),
    ("open_llama-3b",),
)
BY_SIZE = (4, 8, 16)

# Folder: epochs, then for GPT-2, OPT and LLaMA the learning rate and the batch by size.
TABLE = {
    "init": (3, (5e-4, BY_SIZE), (5e-5, BY_SIZE), (5e-4, (8,))),
    "control": (5, (5e-5, (4, 4, 4)), (5e-5, (4, 4, 4)), None),
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
        if column is None:
            assert not any(
                (CONFIGS / f"recipes/{folder}/{name}.yaml").exists() for name in students
            )
            continue
        rate, batches = column
        for student, batch in zip(students, batches, strict=True):
            assert figures(folder, student) == (rate, batch, epochs), student


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
