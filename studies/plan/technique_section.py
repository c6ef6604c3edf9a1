"""The techniques of a study: one by one, and as the product of objectives and response sources."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, cast, get_args

import yaml

from common.located_yaml import Key
from kdmodules.losses import KDLoss
from kdmodules.responses import ResponseSource
from studies.plan.cells import FACTOR_SIGN
from studies.plan.checked_yaml import CheckedYaml

__all__ = ["Start", "Technique", "read_techniques"]

Start = Literal["network", "init", "teacher"]

_KEYS = ("fragment", "label", "start", "fragments", "overrides")
_PRODUCT_KEYS = ("fragment", "start", "fragments", "overrides", "objectives", "sources")
_LEVEL_KEYS = ("fragment", "label", "overrides")


@dataclass(frozen=True)
class Technique:
    """A technique in a study.

    Attributes:
        fragment: The technique's own.
        label: Its name in the study.
        start: Which weights its students begin with.
        fragments: Laid over technique and recipe, in order.
        overrides: Its own options.
    """

    fragment: Path
    label: str
    start: Start
    fragments: tuple[Path, ...]
    overrides: Mapping[str, object]


@dataclass(frozen=True)
class _Factor:
    """What a product varies: a plug point of the student.

    Attributes:
        kind: Folder of its fragments.
        option: Argument of the student that its fragments set, and nothing else.
        base: Class of that argument.
        extras: Its attribute that names the figures of a token which objectives read and sources
            leave.
    """

    kind: str
    option: str
    base: type
    extras: str


_OBJECTIVES = _Factor("objectives", "kd_loss", KDLoss, "required_extras")
_SOURCES = _Factor("sources", "responses", ResponseSource, "extras")


@dataclass(frozen=True)
class _Level:
    """One objective or one response source of a product.

    Attributes:
        key: Where the file names it.
        fragment: Its fragment.
        label: Its name in the study.
        overrides: Its own options.
        extras: The figures of a token that an objective needs, or that a source leaves.
    """

    key: Key
    fragment: Path
    label: str
    overrides: Mapping[str, object]
    extras: frozenset[str]


def read_techniques(check: CheckedYaml, value: object) -> tuple[Technique, ...]:
    """Returns the techniques of a study, products multiplied out.

    Args:
        check: Reader of the file.
        value: Value of the key `techniques`.

    Raises:
        UserError: Unknown key, missing fragment, a label that is there twice, an objective that
            cannot be trained on a source that it is multiplied with.
    """
    techniques: dict[str, Technique] = {}
    for index, item in enumerate(check.items(("techniques",), value)):
        key: Key = ("techniques", index)
        for technique in _entry(check, key, {"fragment": item} if isinstance(item, str) else item):
            if technique.label in techniques:
                message = f"{technique.label!r} is there twice; give one a `label`"
                raise check.source.error(key, message)
            techniques[technique.label] = technique
    return tuple(techniques.values())


def _entry(check: CheckedYaml, key: Key, given: object) -> Iterator[Technique]:
    """Yields what an entry stands for: a technique, or those of a product."""
    product = isinstance(given, dict) and not {"objectives", "sources"}.isdisjoint(given)
    keys = _PRODUCT_KEYS if product else _KEYS
    entry = check.mapping(key, given, keys, required="fragment")
    fragment = check.fragment((*key, "fragment"), entry["fragment"], "techniques")
    start = check.choice((*key, "start"), entry.get("start", "network"), get_args(Start))
    more = check.items((*key, "fragments"), entry.get("fragments", []))
    plain = Technique(
        fragment,
        check.name((*key, "label"), entry.get("label", fragment.stem)),
        cast(Start, start),
        check.fragments((*key, "fragments"), more, "presets"),
        check.options((*key, "overrides"), entry.get("overrides", {})),
    )
    if not product:
        yield plain
        return
    for objective, source in _pairs(check, key, entry):
        yield Technique(
            fragment,
            f"{objective.label}{FACTOR_SIGN}{source.label}",
            plain.start,
            (*plain.fragments, objective.fragment, source.fragment),
            {**plain.overrides, **objective.overrides, **source.overrides},
        )


def _pairs(
    check: CheckedYaml, key: Key, entry: Mapping[str, object]
) -> Iterator[tuple[_Level, _Level]]:
    for factor in (_OBJECTIVES, _SOURCES):
        if factor.kind not in entry:
            message = f"the key {factor.kind!r} is missing: a product has objectives and sources"
            raise check.source.error(key, message)
    objectives, sources = (_levels(check, key, entry, one) for one in (_OBJECTIVES, _SOURCES))
    for objective in objectives:
        for source in sources:
            _require_extras(check, objective, source)
            yield objective, source


def _levels(
    check: CheckedYaml, key: Key, entry: Mapping[str, object], factor: _Factor
) -> list[_Level]:
    own = (*key, factor.kind)
    return [
        _level(check, (*own, index), item, factor)
        for index, item in enumerate(check.items(own, entry[factor.kind], least=1))
    ]


def _level(check: CheckedYaml, key: Key, item: object, factor: _Factor) -> _Level:
    given = {"fragment": item} if isinstance(item, str) else item
    entry = check.mapping(key, given, _LEVEL_KEYS, required="fragment")
    fragment = check.fragment((*key, "fragment"), entry["fragment"], factor.kind)
    overrides = check.options((*key, "overrides"), entry.get("overrides", {}))
    prefix = f"model.{factor.option}."
    for name in overrides:
        # Anything else would differ between levels that are to differ in this factor alone.
        if not name.startswith(prefix) or name == f"{prefix}class_path":
            message = f"here only options of the class that the fragment names, {prefix}<option>"
            raise check.source.error((*key, "overrides", name), message)
    return _Level(
        key,
        fragment,
        check.name((*key, "label"), entry.get("label", fragment.stem)),
        overrides,
        frozenset(getattr(_class_in(check, key, fragment, factor), factor.extras)),
    )


def _class_in(check: CheckedYaml, key: Key, fragment: Path, factor: _Factor) -> type:
    """Returns the class that a fragment of a factor names."""
    try:
        content = yaml.safe_load(fragment.read_text(encoding="utf-8"))
        ((only, named),) = content["model"]["init_args"].items()
        module, _, name = str(named["class_path"]).rpartition(".")
        alone = len(content) == len(content["model"]) == 1 and only == factor.option
        built = getattr(import_module(module), name)
    except (yaml.YAMLError, TypeError, KeyError, ValueError, ImportError, AttributeError) as error:
        raise check.source.error(key, f"{fragment}: {_expected(factor)} ({error!r})") from error
    if not (alone and isinstance(built, type) and issubclass(built, factor.base)):
        raise check.source.error(key, f"{fragment}: {_expected(factor)}")
    return built


def _expected(factor: _Factor) -> str:
    return (
        f"expected model.init_args.{factor.option} and nothing else, with the class_path of a "
        f"{factor.base.__name__}"
    )


def _require_extras(check: CheckedYaml, objective: _Level, source: _Level) -> None:
    """Refuses an objective that needs of every token what the source does not leave."""
    missing = sorted(objective.extras - source.extras)
    if missing:
        raise check.source.error(
            objective.key,
            f"{objective.label} cannot be trained on {source.label}, which leaves no "
            f"{', '.join(missing)}; give it an entry of its own with sources that do",
        )
