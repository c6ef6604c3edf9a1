"""Which stages a study has, with the settings and the stages of its own that its file gives."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictStr

from common.located_yaml import LocatedYaml
from common.roles import Role
from studies.plan.schema import Folders, Name, Options, Section, distinct, fragment_of, mistake
from studies.plan.stages import STAGES, TEACHER_OPTION, Stage


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _role_in_a_study(role: Role) -> Role:
    if role is Role.external:
        raise mistake("an external model has no stage")
    return role


NeededStages = Annotated[
    tuple[StrictStr, ...], BeforeValidator(_listed), Field(min_length=1), AfterValidator(distinct)
]
"""Names of stages whose outputs an option is given, or the name of one."""


class _Settings(Section):
    """What a file may say of a built-in stage."""

    needs: dict[str, NeededStages] = {}
    fragments: tuple[Annotated[Path, fragment_of("recipes")], ...] = ()
    overrides: Options = {}


class _OwnStage(_Settings):
    """A stage of the study's own; its base is that of its role where it names none."""

    role: Annotated[Role, AfterValidator(_role_in_a_study)]
    base: StrictStr = ""
    model: Literal["teacher", "student"] = "student"
    per_technique: StrictBool = False
    output: Name = "export"

    def stage(self, name: str) -> Stage:
        """Returns the stage without what a file may say of a built-in one too."""
        base = self.base or self.role
        return Stage(
            name,
            self.role,
            base,
            model=self.model,
            per_technique=self.per_technique,
            output=self.output,
        )


class _Base(Section):
    base: Annotated[Path, fragment_of("base")]


def read_stages(
    source: LocatedYaml,
    entries: Mapping[str, object],
    folders: Folders,
    *,
    controls: Collection[str],
    starts: Collection[str],
    shadows: int,
) -> dict[str, Stage]:
    """Returns the stages of a study by name.

    Args:
        source: The study file.
        entries: Value of the key `stages`.
        folders: Where fragments are.
        controls: Value of the key `controls`.
        starts: Where the techniques' students start: `network`, `init`, `teacher`; empty in a study
            without techniques.
        shadows: Number of shadow worlds.

    Raises:
        UserError: Unknown stage or setting, a need that no stage meets, a cycle, a student that
            starts from a teacher and has none.
    """
    wanted = {
        "shadow_teacher": shadows > 0,
        "teacher": True,
        "init": "init" in starts,
        "control": "control" in controls,
        "counterfactual_teacher": "counterfactual" in controls,
        "shadow": bool(starts) and shadows > 0,
        "student": bool(starts),
        "counterfactual": bool(starts) and "counterfactual" in controls,
    }
    stages = {name: stage for name, stage in STAGES.items() if wanted[name]}
    for name, entry in entries.items():
        key = ("stages", name)
        if name in STAGES and name not in stages:
            raise source.error(key, "this study has no such stage (see `controls`)")
        settings = (_Settings if name in STAGES else _OwnStage).read(source, entry, folders, key)
        stage = settings.stage(name) if isinstance(settings, _OwnStage) else stages[name]
        stages[name] = replace(
            stage,
            needs={**stage.needs, **settings.needs},
            fragments=settings.fragments,
            overrides=settings.overrides,
        )
    for name, stage in stages.items():
        key = ("stages", name)
        base = _Base.read(source, {"base": str(stage.base)}, folders, key).base
        stages[name] = replace(stage, base=base)
        _check_needs(source, stage, stages)
        teachers = stage.needs.get(TEACHER_OPTION, ())
        if stage.per_technique and "teacher" in starts and len(teachers) != 1:
            needs = f"needs {len(teachers)} stages as" if teachers else "needs no"
            raise source.error(
                key,
                f"a technique has `start: teacher`, but this stage {needs} {TEACHER_OPTION}",
            )
    for name in stages:
        _check_cycle(source, stages, (name,))
    return stages


def _check_needs(source: LocatedYaml, stage: Stage, stages: Mapping[str, Stage]) -> None:
    for option, names in stage.needs.items():
        for needed in names:
            if needed not in stages:
                message = f"no stage {needed!r}; this study has {', '.join(stages)}"
            elif stages[needed].per_technique and not stage.per_technique:
                message = f"{needed!r} has a cell per technique, {stage.name!r} has none"
            elif stages[needed].model == "student" and stage.model == "teacher":
                message = f"{needed!r} has a cell per size, {stage.name!r} has not"
            else:
                continue
            raise source.error(("stages", stage.name, "needs", option), message)


def _check_cycle(source: LocatedYaml, stages: Mapping[str, Stage], trail: tuple[str, ...]) -> None:
    for needed in chain.from_iterable(stages[trail[-1]].needs.values()):
        if needed == trail[0]:
            route = " -> ".join((*trail, needed))
            raise source.error(("stages", trail[0], "needs"), f"{route} is a cycle")
        if needed not in trail:
            _check_cycle(source, stages, (*trail, needed))
