"""From a study file to its cells, in an order in which each comes after what it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from common.errors import UserError
from datamodules.record_names import KEY_NAME
from studies.plan.cells import FRAGMENT_WORD, Cell, Plan, cell_folder, option_text
from studies.plan.content_hash import ContentHasher
from studies.plan.own_splits import require_own_splits
from studies.plan.points import Point, alias_of, points_of
from studies.plan.settings import FragmentReader
from studies.plan.stages import (
    DEPTH_STRIDE_OPTION,
    INIT_OPTION,
    NEVER_SEED_OPTION,
    PSEUDONYMISE_OPTION,
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
)
from studies.plan.study_file import StudyFile

_NEVER_SEED = 0
_FIRST_FAMILY, _TRAINED_ALIKE = "gpt2", ("mini", "tiny")
"""Sizes whose recipes are the same in all families, and the family that has them."""
_STUDENT, _REPEAT, _WORLD, _SEEDS = 10_000, 1_000_000, 100_000_000, 2**32
"""What a student seed, a repeat and a world add to a run's seed; how many seeds generators take."""
_WORLDS = _SEEDS // _WORLD


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
        UserError: An override for a stage that the study has not, a fragment that is not YAML,
            several replicates on one split, or independent runs of one seed.
    """
    given = dict(overrides or {})
    planner = _Planner(study, out, given, threads or study.threads_per_cell)
    for replicate, repeat in product(study.replicates, range(1, study.repeats + 1)):
        for family, stage in product(study.families, study.stages.values()):
            # Shadow worlds are about the split: all of its repeats are judged by the same.
            if repeat == 1 or not stage.shadow:
                for point in points_of(study, stage, family, replicate, repeat):
                    planner.cell(point)
    return Plan(
        study.name,
        study.title,
        study.description,
        str(study.path),
        planner.threads,
        given,
        tuple(planner.cells.values()),
    )


def _one_or_list(values: list[str]) -> str | list[str]:
    """Returns what an option is given: the value where there is one, else all of them."""
    return values[0] if len(values) == 1 else values


class _Planner:
    def __init__(
        self, study: StudyFile, out: Path, overrides: Mapping[str, object], threads: int
    ) -> None:
        self.study = study
        self.out = out
        self.threads = threads
        self.reader = FragmentReader()
        self.hasher = ContentHasher(self.reader)
        self.cells: dict[str, Cell] = {}
        self.draws: dict[int, tuple[int, int, int, int]] = {}
        self.stage_overrides: dict[str, dict[str, object]] = {name: {} for name in study.stages}
        self.common: dict[str, object] = {}
        for option, value in overrides.items():
            if not option.startswith("stages."):
                self.common[option] = value
                continue
            _, stage, name = (*option.split(".", 2), "", "")[:3]
            if stage not in self.stage_overrides or not name:
                known = ", ".join(f"stages.{known}.<option>" for known in self.stage_overrides)
                raise UserError(f"--{option}: no such stage; this study takes {known}")
            self.stage_overrides[stage][name] = value

    def cell(self, point: Point) -> Cell:
        """Returns the cell of a point, added behind what it needs."""
        alias = alias_of(self.study, point)
        if alias in self.cells:
            return self.cells[alias]
        upstream = {
            option: [self.cell(needed) for needed in points]
            for option, points in self._needs(point).items()
        }
        fragments, options = self._fragments(point), self._options(point)
        settings = self.reader.settings(fragments, options)
        replicates = self.study.replicates
        if len(replicates) > 1 and point.replicate in (replicates[0], replicates[-1]):
            require_own_splits(replicates, point.replicate, settings)
        digest = self.hasher.digest(
            {
                "fragments": [self.hasher.fragment(path) for path in fragments],
                "options": self.hasher.options(options),
                "needs": {o: _one_or_list([c.id for c in cells]) for o, cells in upstream.items()},
                "outputs": [cell.output for cells in upstream.values() for cell in cells],
                "threads": self.threads,
                **_coins(point.world),
            }
        )
        if settings.get(PSEUDONYMISE_OPTION) is True:
            # Records go by one name in all cells, whose tables are joined.
            options[PSEUDONYMISE_OPTION] = str(self.out / "private" / KEY_NAME)
        run_dir = cell_folder(self.out, f"{alias}-{digest[:8]}")
        self.cells[alias] = Cell(
            id=run_dir.name,
            alias=alias,
            stage=point.stage.name,
            role=point.stage.role,
            technique=point.technique.label if point.technique else None,
            family=point.family.teacher.stem,
            size=point.fragment.stem,
            replicate=point.replicate,
            repeat=point.repeat,
            student_seed=point.student_seed,
            world=point.world,
            defence=point.defence.name if point.defence else None,
            seed=self._seed(point),
            needs={option: tuple(c.id for c in cells) for option, cells in upstream.items()},
            run_dir=str(run_dir),
            output=point.stage.output,
            arguments=_arguments(fragments, run_dir, upstream, options),
            threads=self.threads,
        )
        return self.cells[alias]

    def _needs(self, point: Point) -> dict[str, list[Point]]:
        stage = point.stage
        names = dict(stage.needs)
        if point.defence is not None and point.defence.laid_over(stage):
            names |= point.defence.needs
        if point.start == "init":
            names[INIT_OPTION] = ("init",)
        elif point.start == "teacher":
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

    def _upstream(self, point: Point, needed: str) -> Point:
        stage, defence = self.study.stages[needed], point.defence
        student = stage.model == "student"
        return replace(
            point,
            stage=stage,
            size=point.size if student else None,
            technique=point.technique if stage.per_technique else None,
            student_seed=point.student_seed if student else None,
            repeat=1 if stage.shadow else point.repeat,
            world=point.world if stage.shadow else None,
            defence=defence if defence and defence.changes(stage, self.study.stages) else None,
        )

    def _seed(self, point: Point) -> int:
        """Returns `seed_everything` of a cell; cells that are to be independent share none."""
        replicate, student, repeat, world = point.draw
        # Shadow worlds have no repeats: those that the range of seeds has no room for take theirs.
        turn, place = divmod(world - 1, _WORLDS) if world else (0, -1)
        seed = replicate + _STUDENT * student
        seed += _REPEAT * (repeat - 1 + turn) + _WORLD * (place + 1)
        other = self.draws.setdefault(seed, point.draw)
        if other == point.draw and seed < _SEEDS:
            return seed
        runs = " and ".join(
            f"replicate {replicate}, student seed {student}, repeat {repeat}"
            + (f", shadow world {world - 1}" if world else "")
            for replicate, student, repeat, world in dict.fromkeys((other, point.draw))
        )
        raise UserError(
            f"{self.study.path}: {runs} would have the seed {seed}, and independent runs need "
            f"seeds of their own below 2**32: take replicates below {_STUDENT}, and with repeats "
            f"or shadows student seeds below {_REPEAT // _STUDENT}, repeats below "
            f"{_WORLD // _REPEAT}"
        )

    def _fragments(self, point: Point) -> list[Path]:
        study, stage, technique = self.study, point.stage, point.technique
        defence = point.defence
        return [
            Path(stage.base),
            study.data.fragment,
            point.fragment,
            *([technique.fragment] if technique else []),
            *self._recipe(point),
            *(technique.fragments if technique else ()),
            *(study.audits if stage.audited else ()),
            *stage.fragments,
            *study.trainer,
            *(defence.laid() if defence and defence.laid_over(stage) else ()),
        ]

    def _recipe(self, point: Point) -> list[Path]:
        """Returns the recipe of a network, where there is one."""
        technique, stage = point.technique, point.stage
        folder = technique.fragment.stem if technique else stage.recipe or stage.name
        stem = point.fragment.stem
        size = stem.rpartition("-")[2]
        names = [stem, f"{_FIRST_FAMILY}-{size}"] if size in _TRAINED_ALIKE else [stem]
        paths = [self.study.configs / "recipes" / folder / f"{name}.yaml" for name in names]
        return [path for path in paths if path.is_file()][:1]

    def _options(self, point: Point) -> dict[str, object]:
        stage, technique, defence = point.stage, point.technique, point.defence
        own: dict[str, object] = {
            RUN_NAME_OPTION: alias_of(self.study, point),
            ROLE_OPTION: stage.role,
        }
        if point.world is not None:
            own[SHADOW_OPTION] = point.world
        if technique is not None:
            own[TECHNIQUE_OPTION] = technique.label
            if point.start == "init":
                # What the init run has written has its depth already.
                own[DEPTH_STRIDE_OPTION] = 1
        return {
            **own,
            THREADS_OPTION: self.threads,
            SEED_OPTION: self._seed(point),
            SPLIT_SEED_OPTION: point.replicate,
            **({NEVER_SEED_OPTION: _NEVER_SEED} if self.study.shared_never else {}),
            **self.study.overrides,
            **self.study.data.overrides,
            **stage.overrides,
            **(technique.overrides if technique is not None else {}),
            **(defence.overrides if defence and defence.laid_over(stage) else {}),
            **self.common,
            **self.stage_overrides[stage.name],
        }


def _coins(world: int | None) -> dict[str, object]:
    """Returns what a cell's id says of its coins: those of odd worlds were no mirror's once."""
    return {"coins": "mirrored"} if world is not None and world % 2 else {}


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
        arguments += [FRAGMENT_WORD, str(path)]
    for option, value in ({RUN_DIR_OPTION: str(run_dir)} | paths | dict(options)).items():
        arguments += [f"--{option}", option_text(value)]
    return tuple(arguments)
