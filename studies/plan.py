"""From a study file to its cells: one reproducible `kd-privacy fit` command each."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from datamodules.errors import UserError
from studies.content_hash import ContentHasher
from studies.stages import (
    DEPTH_STRIDE_OPTION,
    INIT_OPTION,
    ROLE_OPTION,
    RUN_DIR_OPTION,
    RUN_NAME_OPTION,
    SEED_OPTION,
    SPLIT_SEED_OPTION,
    TEACHER_OPTION,
    TECHNIQUE_OPTION,
    THREADS_OPTION,
    Stage,
)
from studies.study_file import Family, StudyFile, Technique

__all__ = ["SEED_STRIDE", "Cell", "Plan", "make_plan", "option_text", "thread_variables"]

# Run seed = replicate + SEED_STRIDE * student seed: no two (replicate, seed) pairs share one.
SEED_STRIDE = 10_000


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
        replicate: Seed of the split and the teacher.
        seed: `seed_everything` of the run.
        needs: Option -> ids of the cells whose outputs it is given.
        run_dir: Folder of the run.
        arguments: Arguments of `kd-privacy`, complete.
        threads: Threads of the process.
    """

    id: str
    alias: str
    stage: str
    role: str
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

    def as_dict(self) -> dict[str, object]:
        """Returns plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, object]) -> "Plan":
        """Inverse of `as_dict`."""
        fields = dict(values)
        listed = fields.pop("cells")
        if not isinstance(listed, list):
            raise TypeError("a plan's cells are a list")
        cells = [
            Cell(
                **{
                    **cell,
                    "arguments": tuple(cell["arguments"]),
                    "needs": {option: tuple(ids) for option, ids in cell["needs"].items()},
                }
            )
            for cell in listed
        ]
        return Plan(cells=tuple(cells), **fields)  # type: ignore[arg-type]


def make_plan(
    study: StudyFile,
    out: Path,
    overrides: Mapping[str, object] | None = None,
    threads: int | None = None,
) -> Plan:
    """Expands a study into cells.

    Args:
        study: The checked file.
        out: Folder of the study; cells go to `out/cells/<id>`.
        overrides: Options given on the command line: they win over the file's.
            `stages.<stage>.<option>` goes to the cells of one stage.
        threads: Threads per cell; None takes the file's.

    Raises:
        UserError: An override for a stage that the study has not, or a fragment that is not YAML.
    """
    return _Planner(study, out, dict(overrides or {}), threads or study.threads_per_cell).plan()


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


def _one_or_list(values: list[str]) -> str | list[str]:
    """Returns what an option is given: the value where there is one, else all of them."""
    return values[0] if len(values) == 1 else values


@dataclass(frozen=True)
class _Point:
    """Coordinates of a cell in the matrix; what a stage does not vary is None."""

    stage: str
    family: int
    replicate: int
    size: Path | None
    technique: str | None
    seed: int | None


class _Planner:
    def __init__(
        self, study: StudyFile, out: Path, overrides: dict[str, object], threads: int
    ) -> None:
        self.study = study
        self.out = out
        self.given = overrides
        self.threads = threads
        self.hasher = ContentHasher()
        self.cells: dict[_Point, Cell] = {}
        self.stage_overrides: dict[str, dict[str, object]] = {name: {} for name in study.stages}
        self.common: dict[str, object] = {}
        for option, value in overrides.items():
            self._place(option, value)

    def _place(self, option: str, value: object) -> None:
        if not option.startswith("stages."):
            self.common[option] = value
            return
        _, stage, name = (*option.split(".", 2), "", "")[:3]
        if stage not in self.stage_overrides or not name:
            known = ", ".join(f"stages.{known}.<option>" for known in self.stage_overrides)
            raise UserError(f"--{option}: no such stage; this study takes {known}")
        self.stage_overrides[stage][name] = value

    def plan(self) -> Plan:
        for replicate in self.study.replicates:
            for index, family in enumerate(self.study.families):
                for stage in self.study.stages.values():
                    for point in self._points(stage, index, family, replicate):
                        self._cell(point)
        study = self.study
        return Plan(
            study.name,
            study.title,
            study.description,
            str(study.path),
            self.threads,
            self.given,
            tuple(self.cells.values()),
        )

    def _points(self, stage: Stage, index: int, family: Family, replicate: int) -> list[_Point]:
        if stage.model == "teacher":
            return [_Point(stage.name, index, replicate, None, None, None)]
        labels = [technique.label for technique in self.study.techniques]
        techniques = labels if stage.per_technique else [None]
        return [
            _Point(stage.name, index, replicate, size, technique, seed)
            for size in family.sizes
            for technique in techniques
            for seed in self.study.seeds
        ]

    def _cell(self, point: _Point) -> Cell:
        if point in self.cells:
            return self.cells[point]
        stage = self.study.stages[point.stage]
        technique = next((t for t in self.study.techniques if t.label == point.technique), None)
        upstream = {
            option: [self._cell(self._upstream(point, needed)) for needed in names]
            for option, names in self._needs(stage, technique).items()
        }
        family = self.study.families[point.family]
        fragment = point.size or family.teacher
        seed = point.replicate + SEED_STRIDE * (point.seed or 0)
        alias = self._alias(point, fragment)
        fragments = self._fragments(stage, fragment, technique)
        options = self._options(stage, technique, alias, seed, point.replicate)
        digest = self.hasher.digest(
            {
                "fragments": [self.hasher.fragment(path) for path in fragments],
                "options": self.hasher.options(options),
                "needs": {o: _one_or_list([c.id for c in cells]) for o, cells in upstream.items()},
                "outputs": [cell.output for cells in upstream.values() for cell in cells],
                "threads": self.threads,
            }
        )
        cell_id = f"{alias}-{digest[:8]}"
        run_dir = self.out / "cells" / cell_id
        paths = {
            option: _one_or_list([f"{cell.run_dir}/{cell.output}" for cell in cells])
            for option, cells in upstream.items()
        }
        arguments = ["fit"]
        for path in fragments:
            arguments += ["-c", str(path)]
        for option, value in ({RUN_DIR_OPTION: str(run_dir)} | paths | options).items():
            arguments += [f"--{option}", option_text(value)]
        cell = Cell(
            id=cell_id,
            alias=alias,
            stage=stage.name,
            role=stage.role,
            technique=point.technique,
            family=family.teacher.stem,
            size=fragment.stem,
            replicate=point.replicate,
            seed=seed,
            needs={option: tuple(c.id for c in cells) for option, cells in upstream.items()},
            run_dir=str(run_dir),
            output=stage.output,
            arguments=tuple(arguments),
            threads=self.threads,
        )
        self.cells[point] = cell
        return cell

    def _needs(self, stage: Stage, technique: Technique | None) -> dict[str, tuple[str, ...]]:
        needs = dict(stage.needs)
        if technique is not None and technique.start == "init":
            needs[INIT_OPTION] = ("init",)
        elif technique is not None and technique.start == "teacher":
            needs[INIT_OPTION] = stage.needs[TEACHER_OPTION]
        return needs

    def _upstream(self, point: _Point, needed: str) -> _Point:
        stage = self.study.stages[needed]
        student = stage.model == "student"
        return _Point(
            needed,
            point.family,
            point.replicate,
            point.size if student else None,
            point.technique if stage.per_technique else None,
            point.seed if student else None,
        )

    def _alias(self, point: _Point, fragment: Path) -> str:
        parts = [point.stage, point.technique, fragment.stem.replace("-", "_")]
        if point.size is not None and self._ambiguous(fragment):
            parts.append(f"of_{self.study.families[point.family].teacher.stem}".replace("-", "_"))
        parts.append(f"r{point.replicate}")
        if point.seed is not None and self.study.seeds != (0,):
            parts.append(f"s{point.seed}")
        return "-".join(part for part in parts if part)

    def _ambiguous(self, fragment: Path) -> bool:
        return sum(fragment in family.sizes for family in self.study.families) > 1

    def _fragments(self, stage: Stage, family: Path, technique: Technique | None) -> list[Path]:
        study = self.study
        recipe_of = technique.fragment.stem if technique else stage.recipe or stage.name
        recipe = study.configs / "recipes" / recipe_of / f"{family.stem}.yaml"
        return [
            study.base_fragments[stage.name],
            study.data,
            family,
            *([technique.fragment] if technique is not None else []),
            *([recipe] if recipe.is_file() else []),
            *study.stage_fragments[stage.name],
            *study.audits,
            *study.trainer,
        ]

    def _options(
        self, stage: Stage, technique: Technique | None, alias: str, seed: int, replicate: int
    ) -> dict[str, object]:
        own: dict[str, object] = {RUN_NAME_OPTION: alias, ROLE_OPTION: stage.role}
        if technique is not None:
            own[TECHNIQUE_OPTION] = technique.label
            if technique.start == "init":
                # What the init run has written has its depth already.
                own[DEPTH_STRIDE_OPTION] = 1
        return {
            **own,
            THREADS_OPTION: self.threads,
            SEED_OPTION: seed,
            SPLIT_SEED_OPTION: replicate,
            **self.study.overrides,
            **stage.overrides,
            **(technique.overrides if technique is not None else {}),
            **self.common,
            **self.stage_overrides[stage.name],
        }
