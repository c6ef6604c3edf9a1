"""The cells of a study: one reproducible `kd-privacy fit` command each."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.roles import Role

# Between objective and source in the label of a product's technique; no other label may hold it.
FACTOR_SIGN = "+"


FRAGMENT_WORD = "-c"


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        id: Alias and a hash of everything that decides the result; name of the cell's folder.
        alias: Readable name, unique in the study; `run.name` of the run and key of the tables.
        stage: Stage and, in `role`, what the run is called in the tables.
        technique: Label of its technique; None where the stage has none.
        family: Stem of the teacher's family fragment.
        size: Stem of this model's own family fragment.
        replicate: Seed of the split and, of the first repeat, the teacher.
        seed: `seed_everything` of the run.
        needs: Option -> ids of the cells whose outputs it is given.
        run_dir: Folder of the run.
        output: Folder in it that later stages use.
        arguments: Arguments of `kd-privacy`, complete.
        threads: Threads of the process.
        repeat: Which of the teachers and students on the replicate's split, from 1. A repeat is no
            replicate.
        student_seed: Which of the study's student seeds it has; None of a stage without.
        world: Shadow world in which the coins of the pool are thrown anew; None outside of one.
        defence: Label of the defence that it, or what taught it, was trained with; None without.
    """

    id: str
    alias: str
    stage: str
    role: Role
    technique: str | None
    family: str
    size: str
    replicate: int
    seed: int
    needs: dict[str, tuple[str, ...]]
    run_dir: str
    output: str
    arguments: tuple[str, ...]
    threads: int
    repeat: int = 1
    student_seed: int | None = None
    world: int | None = None
    defence: str | None = None

    @property
    def factors(self) -> tuple[str, str] | None:
        """Objective and response source of a product's technique; None of any other cell."""
        objective, sign, source = (self.technique or "").partition(FACTOR_SIGN)
        return (objective, source) if sign else None

    @property
    def fragments(self) -> tuple[str, ...]:
        """Paths of its fragments, in the order in which they are laid over each other."""
        return tuple(value for word, value in self._pairs if word == FRAGMENT_WORD)

    @property
    def options(self) -> dict[str, str]:
        """Its options and their texts, which win over its fragments."""
        pairs = self._pairs
        return {word.removeprefix("--"): value for word, value in pairs if word != FRAGMENT_WORD}

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.arguments[1::2], self.arguments[2::2], strict=True))

    @property
    def command(self) -> str:
        """The command as one would type it in the working folder."""
        threads = [f"{name}={value}" for name, value in thread_variables(self.threads).items()]
        return shlex.join([*threads, "kd-privacy", *self.arguments])


@dataclass(frozen=True)
class Plan:
    """The cells of a study in an order in which each comes after what it needs."""

    name: str
    title: str
    description: str
    source: str
    threads: int
    overrides: dict[str, object]
    cells: tuple[Cell, ...]

    def moved_to(self, out: Path) -> "Plan":
        """Returns the plan of a study whose folder lies elsewhere now, its cells inside.

        What the cells' commands say stays: that is how they were run.
        """
        cells = (replace(cell, run_dir=str(cell_folder(out, cell.id))) for cell in self.cells)
        return replace(self, cells=tuple(cells))

    def as_dict(self) -> dict[str, object]:
        """Returns plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, object]) -> "Plan":
        """Inverse of `as_dict`.

        Raises:
            UserError: The plan was written by another version, whose cells have other fields.
        """
        plan: dict[str, Any] = dict(values)
        return Plan(**{**plan, "cells": tuple(_cell(cell) for cell in plan["cells"])})


def _cell(values: dict[str, Any]) -> Cell:
    if values.keys() != {field.name for field in fields(Cell)}:
        raise UserError(
            "plan.json was written by another version: `kd-study run` with the same file and "
            "folder writes it anew; `kd-study plan` says which cells it would keep"
        )
    needs = {option: tuple(ids) for option, ids in values["needs"].items()}
    arguments, role = tuple(values["arguments"]), Role(values["role"])
    return Cell(**{**values, "arguments": arguments, "needs": needs, "role": role})


def cell_folder(out: Path, identity: str) -> Path:
    """Returns the folder of a cell in the folder of its study."""
    return out / "cells" / identity


def thread_variables(threads: int) -> dict[str, str]:
    """Returns the environment that fixes the threads of libraries that start before the options."""
    return {"OMP_NUM_THREADS": str(threads)}


def option_text(value: object) -> str:
    """Returns an option's value as its command-line text.

    >>> option_text(True), option_text(None), option_text([1, "a"]), option_text(0.5)
    ('true', 'null', '[1, a]', '0.5')
    """
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")
