"""The techniques of a study: one by one, and as the product of objectives and response sources."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from common.errors import UserError
from kdmodules.losses import KDLoss
from kdmodules.responses import ResponseSource
from studies.plan.cells import FACTOR_SIGN
from studies.plan.schema import Name, Options, OptionValue, Section, fragment_of, mistake, name_of
from studies.plan.settings import FragmentReader

Start = Literal["network", "init", "teacher"]
"""Which weights students begin with."""


@dataclass(frozen=True)
class _Factor:
    """What a product varies: a plug point of the student.

    Attributes:
        option: Argument of the student that its fragments set, and nothing else.
        base: Class of that argument.
        extras: Its attribute that names the figures of a token which objectives read and sources
            leave.
    """

    option: str
    base: type
    extras: str

    def class_in(self, path: Path) -> type:
        """Returns the class that a fragment names."""
        expected = (
            f"{path}: expected model.init_args.{self.option} and nothing else, with the class_path "
            f"of a {self.base.__name__}"
        )
        try:
            content = FragmentReader().content(path)
            ((option, named),) = content["model"]["init_args"].items()
            module, _, name = str(named["class_path"]).rpartition(".")
            alone = len(content) == len(content["model"]) == 1 and option == self.option
            found = getattr(import_module(module), name)
        except (UserError, TypeError, KeyError, ValueError, ImportError, AttributeError) as error:
            raise mistake(f"{expected} ({error!r})") from error
        if not (alone and isinstance(found, type) and issubclass(found, self.base)):
            raise mistake(expected)
        return found


_OBJECTIVE = _Factor("kd_loss", KDLoss, "required_extras")
_SOURCE = _Factor("responses", ResponseSource, "extras")


def _of_the_class(factor: _Factor, option: str) -> str:
    prefix = f"model.{factor.option}."
    # Anything else would differ between levels that are to differ in this factor alone.
    if not option.startswith(prefix) or option == f"{prefix}class_path":
        raise mistake(f"here only options of the class that the fragment names, {prefix}<option>")
    return option


class _Level(Section):
    """One objective or one response source of a product."""

    short: ClassVar[str] = "fragment"
    factor: ClassVar[_Factor]
    fragment: Path
    label: Name | None = None
    overrides: Options = {}

    @cached_property
    def extras(self) -> frozenset[str]:
        """The figures of a token that an objective needs, or that a source leaves."""
        return frozenset(getattr(self.factor.class_in(self.fragment), self.factor.extras))

    @model_validator(mode="after")
    def _has_a_class(self) -> "_Level":
        # Asks for the class that the fragment names.
        _ = self.extras
        return self


class _Objective(_Level):
    factor = _OBJECTIVE
    fragment: Annotated[Path, fragment_of("objectives")]
    overrides: dict[
        Annotated[str, AfterValidator(partial(_of_the_class, _OBJECTIVE))], OptionValue
    ] = {}


class _Source(_Level):
    factor = _SOURCE
    fragment: Annotated[Path, fragment_of("sources")]
    overrides: dict[
        Annotated[str, AfterValidator(partial(_of_the_class, _SOURCE))], OptionValue
    ] = {}


class Technique(Section):
    """A technique in a study, or in the file a product of objectives and response sources.

    Attributes:
        fragment: The technique's own.
        label: Its name in the study.
        start: Which weights its students begin with.
        fragments: Laid over technique and recipe, in order.
        overrides: Its own options.
        objectives: Those of a product, which has response sources too and no label.
        sources: Those of a product.
    """

    short: ClassVar[str] = "fragment"
    fragment: Annotated[Path, fragment_of("techniques")]
    label: Name | None = None
    start: Start = "network"
    fragments: tuple[Annotated[Path, fragment_of("presets")], ...] = ()
    overrides: Options = {}
    objectives: tuple[_Objective, ...] | None = Field(None, min_length=1)
    sources: tuple[_Source, ...] | None = Field(None, min_length=1)

    def expanded(self) -> Iterator["Technique"]:
        """Yields what an entry of the file stands for: itself, or the techniques of a product."""
        if self.objectives is None and self.sources is None:
            yield self.model_copy(update={"label": name_of(self.label, self.fragment)})
            return
        for kind in ("objectives", "sources"):
            if getattr(self, kind) is None:
                raise mistake(f"the key {kind!r} is missing: a product has objectives and sources")
        if self.label is not None:
            raise mistake(
                "unknown key; a product's techniques have the labels of its parts", "label"
            )
        objectives, sources = self.objectives or (), self.sources or ()
        for (index, objective), source in product(enumerate(objectives), sources):
            names = [name_of(level.label, level.fragment) for level in (objective, source)]
            missing = ", ".join(sorted(objective.extras - source.extras))
            if missing:
                raise mistake(
                    f"{names[0]} cannot be trained on {names[1]}, which leaves no {missing}; give "
                    "it an entry of its own with sources that do",
                    "objectives",
                    index,
                )
            yield self.model_copy(
                update={
                    "label": FACTOR_SIGN.join(names),
                    "fragments": (*self.fragments, objective.fragment, source.fragment),
                    "overrides": self.overrides | objective.overrides | source.overrides,
                }
            )

    @model_validator(mode="after")
    def _can_be_expanded(self) -> "Technique":
        list(self.expanded())
        return self


def _expanded(entries: tuple[Technique, ...]) -> tuple[Technique, ...]:
    techniques: dict[str, Technique] = {}
    for index, entry in enumerate(entries):
        for technique in entry.expanded():
            label = str(technique.label)
            if label in techniques:
                raise mistake(f"{label!r} is there twice; give one a `label`", index)
            techniques[label] = technique
    return tuple(techniques.values())


Techniques = Annotated[tuple[Technique, ...], AfterValidator(_expanded)]
"""The techniques of a study, products multiplied out."""
