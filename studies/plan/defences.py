"""The defences of a study: which of its stages each is laid over."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictStr, model_validator

from common.errors import UserError
from common.roles import Role
from studies.plan.schema import Name, Options, Section, distinct, fragment_of, mistake, name_of
from studies.plan.settings import FragmentReader
from studies.plan.stage_section import NeededStages
from studies.plan.stages import Stage

_TEACHERS = (Role.teacher, Role.counterfactual_teacher)


class Defence(Section):
    """A defence in a study.

    A fragment that sets what only a student has (its objective, its response source) is laid over
    the students, theirs of counterfactual and shadow teachers included; any other over all
    teachers, so that nothing but the records tells them apart.

    Attributes:
        fragment: Its own.
        label: Its name in the study.
        fragments: Adapters that it is trained with, laid before it: LoRA under noise, say.
        overrides: Its own options.
        techniques: Labels of the techniques whose students it is for; None is for all.
        needs: Stages that its students are given, in place of their own; each trains a teacher's
            network and is trained as it is, whatever other defences there are.
        counterfactual: Whether its students and teachers have counterfactuals, where others have.
    """

    short: ClassVar[str] = "fragment"
    fragment: Annotated[Path, fragment_of("defences")]
    label: Name | None = None
    fragments: tuple[Annotated[Path, fragment_of("adapters")], ...] = ()
    overrides: Options = {}
    techniques: (
        Annotated[tuple[StrictStr, ...], Field(min_length=1), AfterValidator(distinct)] | None
    ) = None
    needs: dict[str, NeededStages] = {}
    counterfactual: StrictBool = True

    @property
    def name(self) -> str:
        """Its name in the study."""
        return name_of(self.label, self.fragment)

    @cached_property
    def of(self) -> Literal["teacher", "student"]:
        """Whose training it changes."""
        # Its imports take a second that other studies need not wait for.
        from kdmodules import StudentModule, SupervisedModule

        try:
            model = FragmentReader().content(self.fragment).get("model") or {}
        except UserError as error:
            raise mistake(str(error)) from error
        given = set(model.get("init_args", {})) if isinstance(model, dict) else set()
        student, teacher = (
            set(signature(one).parameters) for one in (StudentModule, SupervisedModule)
        )
        students, teachers = given & (student - teacher), given & (teacher - student)
        if students and teachers:
            raise mistake(
                f"{self.fragment} sets options of students ({', '.join(sorted(students))}) and of "
                f"teachers ({', '.join(sorted(teachers))}): write a fragment for each"
            )
        return "student" if students else "teacher"

    def changes(self, stage: Stage, stages: Mapping[str, Stage]) -> bool:
        """Returns whether a stage has a cell for it: its own, or because of what it needs."""
        return self.laid_over(stage) or any(
            self.changes(stages[name], stages) for names in stage.needs.values() for name in names
        )

    def laid(self) -> tuple[Path, ...]:
        """Returns its fragments, its own last."""
        return (*self.fragments, self.fragment)

    def laid_over(self, stage: Stage) -> bool:
        """Returns whether its fragment is laid over a stage's cells: students, or teachers."""
        if self.of == "student":
            return stage.per_technique
        return stage.role in _TEACHERS or (stage.shadow and stage.model == "teacher")

    @model_validator(mode="after")
    def _can_be_laid(self) -> "Defence":
        # Its name and whose it is say what is wrong with the fragment.
        _, of = self.name, self.of
        if self.needs and of == "teacher":
            raise mistake("only a defence of students has stages of its own to need", "needs")
        return self


def _named_once(defences: tuple[Defence, ...]) -> tuple[Defence, ...]:
    for index, name in enumerate(one.name for one in defences):
        if name in [one.name for one in defences[:index]]:
            raise mistake(f"{name!r} is there twice; give one a `label`", index)
    return defences


def undefended_and(
    defences: tuple[Defence, ...], stage: Stage, stages: Mapping[str, Stage], *, undefended: bool
) -> Iterator[Defence | None]:
    """Yields what a stage has cells for: no defence (None), and every one that changes it.

    Args:
        defences: The study's.
        stage: The stage.
        stages: All stages by name.
        undefended: Whether stages that defences change are there without any, too.
    """
    changing = [one for one in defences if one.changes(stage, stages)]
    if undefended or not changing:
        yield None
    for one in changing:
        if one.counterfactual or not stage.role.startswith("counterfactual"):
            yield one


Defences = Annotated[tuple[Defence, ...], AfterValidator(_named_once)]
"""The defences of a study, each of a name of its own."""
