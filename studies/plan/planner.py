"""From a study file to its cells, in an order in which each comes after what it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from common.errors import UserError
from studies.plan.cells import Cell, Plan, cell_folder, option_text
from studies.plan.content_hash import ContentHasher
from studies.plan.own_splits import require_own_splits
from studies.plan.stages import (
    DEPTH_STRIDE_OPTION,
    INIT_OPTION,
    NEVER_SEED_OPTION,
    REFERENCES_OPTION,
    ROLE_OPTION,
    RUN_DIR_OPTION,
    RUN_NAME_OPTION,
    SEED_OPTION,
    SHADOW_OPTION,
    SPLIT_SEED_OPTION,
    TEACHER_OPTION,
    TECHNIQUE_OPTION,
    THREADS_OPTION,
    Stage,
)
from studies.plan.study_file import Family, StudyFile
from studies.plan.technique_section import Technique

__all__ = ["make_plan"]

_NEVER_SEED = 0


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
        UserError: An override for a stage that the study has not, a fragment that is not YAML, or
            several replicates on one split.
    """
    return _Planner(study, out, dict(overrides or {}), threads or study.threads_per_cell).plan()


def _one_or_list(values: list[str]) -> str | list[str]:
    """Returns what an option is given: the value where there is one, else all of them."""
    return values[0] if len(values) == 1 else values


_STUDENT, _REPEAT, _WORLD, _SEEDS = 10_000, 1_000_000, 100_000_000, 2**32
"""What a student seed, a repeat and a world add to a run's seed; how many seeds generators take."""


@dataclass(frozen=True)
class _Draw:
    """What a run's seed is made of: two runs that differ in any of it are to be independent."""

    replicate: int
    student_seed: int
    repeat: int
    world: int | None

    @property
    def seed(self) -> int:
        outside = 0 if self.world is None else self.world + 1
        return (
            self.replicate
            + _STUDENT * self.student_seed
            + _REPEAT * (self.repeat - 1)
            + _WORLD * outside
        )


@dataclass(frozen=True)
class _Point:
    """Coordinates of a cell in the matrix; what a stage does not vary is None."""

    stage: str
    family: int
    replicate: int
    size: Path | None
    technique: str | None
    seed: int | None
    repeat: int
    world: int | None = None


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
        self.seeds: dict[int, _Draw] = {}
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
        study = self.study
        for replicate, repeat in product(study.replicates, range(1, study.repeats + 1)):
            for index, family in enumerate(study.families):
                for stage in study.stages.values():
                    # Shadow worlds are about the split: all of its repeats are judged by the same.
                    if repeat == 1 or not stage.shadow:
                        for point in self._points(stage, index, family, replicate, repeat):
                            self._cell(point)
        return Plan(
            study.name,
            study.title,
            study.description,
            str(study.path),
            self.threads,
            self.given,
            tuple(self.cells.values()),
        )

    def _points(
        self, stage: Stage, index: int, family: Family, replicate: int, repeat: int
    ) -> list[_Point]:
        worlds = range(self.study.shadows) if stage.shadow else [None]
        if stage.model == "teacher":
            return [
                _Point(stage.name, index, replicate, None, None, None, repeat, world)
                for world in worlds
            ]
        labels = [technique.label for technique in self.study.techniques]
        techniques = labels if stage.per_technique else [None]
        return [
            _Point(stage.name, index, replicate, size, technique, seed, repeat, world)
            for size in family.sizes
            for technique in techniques
            for seed in self.study.seeds
            for world in worlds
        ]

    def _cell(self, point: _Point) -> Cell:
        if point in self.cells:
            return self.cells[point]
        stage = self.study.stages[point.stage]
        technique = next((t for t in self.study.techniques if t.label == point.technique), None)
        upstream = {
            option: [self._cell(needed) for needed in points]
            for option, points in self._needs(point, stage, technique).items()
        }
        fragment = point.size or self.study.families[point.family].teacher
        fragments = self._fragments(stage, fragment, technique)
        options = self._options(point, stage, technique)
        if point.replicate in (self.study.replicates[0], self.study.replicates[-1]):
            require_own_splits(self.study.replicates, point.replicate, options, fragments)
        digest = self.hasher.digest(
            {
                "fragments": [self.hasher.fragment(path) for path in fragments],
                "options": self.hasher.options(options),
                "needs": {o: _one_or_list([c.id for c in cells]) for o, cells in upstream.items()},
                "outputs": [cell.output for cells in upstream.values() for cell in cells],
                "threads": self.threads,
            }
        )
        alias = self._alias(point)
        run_dir = cell_folder(self.out, f"{alias}-{digest[:8]}")
        cell = Cell(
            id=run_dir.name,
            alias=alias,
            stage=stage.name,
            role=stage.role,
            technique=point.technique,
            family=self.study.families[point.family].teacher.stem,
            size=fragment.stem,
            replicate=point.replicate,
            repeat=point.repeat,
            student_seed=point.seed,
            world=point.world,
            seed=self._seed(point),
            needs={option: tuple(c.id for c in cells) for option, cells in upstream.items()},
            run_dir=str(run_dir),
            output=stage.output,
            arguments=_arguments(fragments, run_dir, upstream, options),
            threads=self.threads,
        )
        self.cells[point] = cell
        return cell

    def _needs(
        self, point: _Point, stage: Stage, technique: Technique | None
    ) -> dict[str, list[_Point]]:
        names = dict(stage.needs)
        if technique is not None and technique.start == "init":
            names[INIT_OPTION] = ("init",)
        elif technique is not None and technique.start == "teacher":
            names[INIT_OPTION] = stage.needs[TEACHER_OPTION]
        needs = {
            option: [self._upstream(point, name) for name in listed]
            for option, listed in names.items()
        }
        if stage.judged_by:
            for world in range(self.study.shadows):
                judge = replace(self._upstream(point, stage.judged_by), world=world)
                needs[f"{REFERENCES_OPTION}.shadow{world}"] = [judge]
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
            1 if stage.shadow else point.repeat,
            point.world if stage.shadow else None,
        )

    def _alias(self, point: _Point) -> str:
        fragment = point.size or self.study.families[point.family].teacher
        parts = [point.stage, point.technique, fragment.stem.replace("-", "_")]
        if point.size is not None and self._ambiguous(fragment):
            parts.append(f"of_{self.study.families[point.family].teacher.stem}".replace("-", "_"))
        parts.append(f"r{point.replicate}")
        if point.seed is not None and self.study.seeds != (0,):
            parts.append(f"s{point.seed}")
        if point.repeat > 1:
            parts.append(f"repeat{point.repeat}")
        if point.world is not None:
            parts.append(f"w{point.world}")
        return "-".join(part for part in parts if part)

    def _seed(self, point: _Point) -> int:
        """Returns `seed_everything` of a cell; cells that are to be independent share none."""
        draw = _Draw(point.replicate, point.seed or 0, point.repeat, point.world)
        seed = draw.seed
        other = self.seeds.setdefault(seed, draw)
        if other != draw or seed >= _SEEDS:
            why = f"runs of {other} and {draw} would" if other != draw else f"{draw} would"
            raise UserError(
                f"{self.study.path}: {why} have the seed {seed}, and independent runs need seeds "
                f"of their own below 2**32: take replicates below {_STUDENT}, and with repeats or "
                f"shadows student seeds below {_REPEAT // _STUDENT}, repeats below "
                f"{_WORLD // _REPEAT} and at most {_SEEDS // _WORLD} shadows"
            )
        return seed

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
            *(technique.fragments if technique is not None else ()),
            *(study.audits if stage.audited else ()),
            *study.stage_fragments[stage.name],
            *study.trainer,
        ]

    def _options(
        self, point: _Point, stage: Stage, technique: Technique | None
    ) -> dict[str, object]:
        own: dict[str, object] = {RUN_NAME_OPTION: self._alias(point), ROLE_OPTION: stage.role}
        if point.world is not None:
            own[SHADOW_OPTION] = point.world
        if technique is not None:
            own[TECHNIQUE_OPTION] = technique.label
            if technique.start == "init":
                # What the init run has written has its depth already.
                own[DEPTH_STRIDE_OPTION] = 1
        return {
            **own,
            THREADS_OPTION: self.threads,
            SEED_OPTION: self._seed(point),
            SPLIT_SEED_OPTION: point.replicate,
            **({NEVER_SEED_OPTION: _NEVER_SEED} if self.study.shared_never else {}),
            **self.study.overrides,
            **stage.overrides,
            **(technique.overrides if technique is not None else {}),
            **self.common,
            **self.stage_overrides[stage.name],
        }


def _arguments(
    fragments: Sequence[Path],
    run_dir: Path,
    upstream: Mapping[str, Sequence[Cell]],
    options: Mapping[str, object],
) -> tuple[str, ...]:
    """Returns the arguments of `kd-privacy` that make a cell."""
    paths = {
        option: _one_or_list([f"{cell.run_dir}/{cell.output}" for cell in cells])
        for option, cells in upstream.items()
    }
    arguments = ["fit"]
    for path in fragments:
        arguments += ["-c", str(path)]
    for option, value in ({RUN_DIR_OPTION: str(run_dir)} | paths | dict(options)).items():
        arguments += [f"--{option}", option_text(value)]
    return tuple(arguments)
