"""Which stages a study has, with the settings and the stages of its own that its file gives."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal, cast

from common.located_yaml import Key
from common.roles import Role
from studies.plan.checked_yaml import CheckedYaml
from studies.plan.stages import STAGES, TEACHER_OPTION, Stage

__all__ = ["CONTROLS", "read_stages"]

CONTROLS = ("control", "counterfactual")
_STUDY_ROLES = tuple(role for role in Role if role is not Role.external)
_SETTINGS = ("needs", "fragments", "overrides")
_OWN = ("role", "base", "model", "per_technique", "output", *_SETTINGS)


def read_stages(
    check: CheckedYaml,
    section: object,
    controls: Sequence[str],
    *,
    students: bool,
    starts: Collection[str],
    shadows: int,
) -> dict[str, Stage]:
    """Returns the stages of a study by name.

    Args:
        check: Reader of the file.
        section: Value of the key `stages`.
        controls: Value of the key `controls`.
        students: Whether the study has techniques.
        starts: Where the techniques' students start: `network`, `init`, `teacher`.
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
        "shadow": students and shadows > 0,
        "student": students,
        "counterfactual": students and "counterfactual" in controls,
    }
    stages = {name: stage for name, stage in STAGES.items() if wanted[name]}
    for name, value in check.mapping(("stages",), section, None).items():
        stages[check.name(("stages", name), name)] = _stage(check, name, value, stages)
    for stage in stages.values():
        _check_needs(check, stage, stages)
        teachers = stage.needs.get(TEACHER_OPTION, ())
        if stage.per_technique and "teacher" in starts and len(teachers) != 1:
            found = f"needs {len(teachers)} stages as" if teachers else "needs no"
            raise check.source.error(
                ("stages", stage.name),
                f"a technique has `start: teacher`, but this stage {found} {TEACHER_OPTION}",
            )
    for stage in stages.values():
        _check_cycle(check, stages, (stage.name,))
    return stages


def _stage(check: CheckedYaml, name: str, value: object, stages: Mapping[str, Stage]) -> Stage:
    key: Key = ("stages", name)
    if name in STAGES:
        if name not in stages:
            raise check.source.error(key, "this study has no such stage (see `controls`)")
        entry = check.mapping(key, value, _SETTINGS)
        stage = stages[name]
    else:
        entry = check.mapping(key, value, _OWN, required="role")
        stage = _own_stage(check, name, entry)
    needs = {
        option: _needed(check, (*key, "needs", option), value)
        for option, value in check.options((*key, "needs"), entry.get("needs", {})).items()
    }
    fragments = check.items((*key, "fragments"), entry.get("fragments", []))
    return replace(
        stage,
        needs={**stage.needs, **needs},
        fragments=tuple(
            check.text((*key, "fragments", index), item) for index, item in enumerate(fragments)
        ),
        overrides=check.options((*key, "overrides"), entry.get("overrides", {})),
    )


def _needed(check: CheckedYaml, key: Key, value: object) -> tuple[str, ...]:
    """Returns the stages that one option is given: a name, or a list of different ones."""
    if not isinstance(value, list):
        return (check.text(key, value),)
    names = [
        check.text((*key, index), name) for index, name in enumerate(check.items(key, value, 1))
    ]
    if len(set(names)) < len(names):
        raise check.source.error(key, f"a stage is there twice in {names}")
    return tuple(names)


def _own_stage(check: CheckedYaml, name: str, entry: Mapping[str, object]) -> Stage:
    key: Key = ("stages", name)
    role = Role(check.choice((*key, "role"), entry["role"], _STUDY_ROLES))
    models = ("teacher", "student")
    model = check.choice((*key, "model"), entry.get("model", "student"), models)
    return Stage(
        name,
        role,
        base=check.text((*key, "base"), entry.get("base", role)),
        model=cast(Literal["teacher", "student"], model),
        per_technique=check.boolean((*key, "per_technique"), entry.get("per_technique", False)),
        output=check.name((*key, "output"), entry.get("output", "export")),
    )


def _check_needs(check: CheckedYaml, stage: Stage, stages: Mapping[str, Stage]) -> None:
    for option, names in stage.needs.items():
        key: Key = ("stages", stage.name, "needs", option)
        for needed in names:
            _check_need(check, key, stage, needed, stages)


def _check_need(
    check: CheckedYaml, key: Key, stage: Stage, needed: str, stages: Mapping[str, Stage]
) -> None:
    if needed not in stages:
        known = ", ".join(stages)
        raise check.source.error(key, f"no stage {needed!r}; this study has {known}")
    if stages[needed].per_technique and not stage.per_technique:
        raise check.source.error(
            key, f"{needed!r} has a cell per technique, {stage.name!r} has none"
        )
    if stages[needed].model == "student" and stage.model == "teacher":
        raise check.source.error(key, f"{needed!r} has a cell per size, {stage.name!r} has not")


def _check_cycle(check: CheckedYaml, stages: Mapping[str, Stage], trail: tuple[str, ...]) -> None:
    for needed in chain.from_iterable(stages[trail[-1]].needs.values()):
        if needed == trail[0]:
            route = " -> ".join((*trail, needed))
            raise check.source.error(("stages", trail[0], "needs"), f"{route} is a cycle")
        if needed not in trail:
            _check_cycle(check, stages, (*trail, needed))
