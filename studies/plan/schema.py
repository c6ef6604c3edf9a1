"""Typed reading of a study file: what is refused is named by file, line and key."""

import difflib
import re
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from common.located_yaml import Key, LocatedYaml

Item = TypeVar("Item", bound=Hashable)
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "int_type": "an integer",
    "string_pattern_mismatch": "a name of letters, digits, - and _",
    "string_type": "text",
    "tuple_type": "a list",
}


@dataclass(frozen=True)
class Folders:
    """Where the fragments of a study file are: beside it, or in a folder by kind."""

    beside: Path
    configs: Path


def mistake(message: str, *key: str | int) -> PydanticCustomError:
    """Returns an error of a value, or of what lies at a key inside it."""
    return PydanticCustomError("mistake", "{message}", {"message": message, "key": key})


class Section(BaseModel):
    """A mapping in the file, without keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    short: ClassVar[str] = ""
    """The key whose value may stand for the whole section."""

    @model_validator(mode="before")
    @classmethod
    def _has_known_keys(cls, value: Any) -> Any:
        if cls.short and isinstance(value, str):
            return {cls.short: value}
        if not isinstance(value, dict):
            raise mistake(f"expected a mapping, found {value!r}")
        for name in value:
            if name not in cls.model_fields:
                near = difflib.get_close_matches(name, cls.model_fields, 1)
                hint = (
                    f"did you mean {near[0]!r}?"
                    if near
                    else f"known: {', '.join(cls.model_fields)}"
                )
                raise mistake(f"unknown key; {hint}", name)
        return value

    @classmethod
    def read(cls, source: LocatedYaml, value: object, folders: Folders, key: Key = ()) -> Self:
        """Reads a section of a file.

        Args:
            source: The file.
            value: The section's value in it.
            folders: Where its fragments are.
            key: Where the section stands.

        Raises:
            UserError: Names file, line and key of the first mistake.
        """
        try:
            return cls.model_validate(value, context=folders)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise source.error((*key, *_key(first)), _message(first)) from error


def _key(error: ErrorDetails) -> Key:
    key = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == "missing":
        return key[:-1]
    return (*key, *error.get("ctx", {}).get("key", ()))


def _message(error: ErrorDetails) -> str:
    kind, limits, found = error["type"], error.get("ctx", {}), f", found {error['input']!r}"
    if kind == "missing":
        return f"the key {error['loc'][-1]!r} is missing"
    if kind in ("literal_error", "enum"):
        return f"expected one of {limits['expected']}".replace("'", "").replace(" or", ",") + found
    if kind == "too_short":
        return f"expected a list of at least {limits['min_length']}{found}"
    if kind == "greater_than_equal":
        return f"expected an integer of at least {limits['ge']}{found}"
    return f"expected {_EXPECTED[kind]}{found}" if kind in _EXPECTED else error["msg"]


def _find_fragment(kind: str, value: object, info: ValidationInfo) -> Path:
    """Returns the path of a fragment: `configs/<kind>/<value>.yaml`, or a path as given."""
    if not isinstance(value, str):
        raise mistake(f"expected text, found {value!r}")
    folders = cast(Folders, info.context)
    if "/" in value or value.endswith((".yaml", ".yml")):
        candidates = [folders.beside / value, Path(value)]
    else:
        candidates = [folders.configs / kind / f"{value}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    message = f"no such fragment: {' or '.join(str(path) for path in candidates)}"
    there = ", ".join(sorted(path.stem for path in candidates[0].parent.glob("*.yaml")))
    raise mistake(f"{message}; there are {there}" if there else message)


def fragment_of(kind: str) -> BeforeValidator:
    """Returns what makes a path of a fragment's name."""
    return BeforeValidator(partial(_find_fragment, kind))


def name_of(label: str | None, path: Path) -> str:
    """Returns the label of a fragment in the study: its stem where it is given none."""
    name = path.stem if label is None else label
    if not re.fullmatch(_NAME, name):
        raise mistake(f"give {path} a `label` of {_EXPECTED['string_pattern_mismatch']}")
    return name


def distinct(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Refuses an item that is there twice."""
    for index, item in enumerate(items):
        if item in items[:index]:
            raise mistake(f"{item!r} is there twice")
    return items


def _scalar(value: object) -> object:
    if isinstance(value, dict):
        raise mistake("write nested options with dots: `trainer.max_epochs: 3`")
    return value


Name = Annotated[StrictStr, Field(pattern=_NAME)]
OptionValue = Annotated[object, AfterValidator(_scalar)]
Options = dict[str, OptionValue]
"""Options of `kd-privacy`: dotted names and their values."""
