"""What a cell's fragments and options come to, without starting the command that resolves them.

`kd-privacy` takes a quarter of a second to parse a configuration. A study reads a few settings of
hundreds of cells: fragments are merged here as the command merges them, and what is not given has
the class's own default.
"""

import contextlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import yaml

from common.errors import UserError
from common.located_yaml import load_located
from studies.plan.cells import Cell

Named = TypeVar("Named")


class Settings:
    """Merged settings of one run, read by dotted names as on the command line.

    Args:
        tree: Nested settings; an entry may hold its options in `init_args`.
    """

    def __init__(self, tree: dict[str, object]) -> None:
        self.tree = tree

    def get(self, name: str, default: object = None) -> object:
        """Returns a setting, or the default where it is not given or null."""
        found: object = self.tree
        for part in name.split("."):
            found = _options(found).get(part)
        return default if found is None else found

    def number(self, name: str, default: float) -> float:
        """Returns a number.

        Raises:
            UserError: It is none.
        """
        value = self.get(name, default)
        if isinstance(value, str):
            # To YAML 1.1 `1e-3` is text; to `kd-privacy` it is a number.
            with contextlib.suppress(ValueError):
                return float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{name} is {value!r}: give a number")
        return value

    def count(self, name: str, default: int) -> int:
        """Returns a whole number; raises as `number` does."""
        return int(self.number(name, default))

    def text(self, name: str, default: str = "") -> str:
        """Returns a text; what is written in another way is its YAML text."""
        return str(self.get(name, default))

    def section(self, name: str) -> dict[str, object]:
        """Returns the options of a nested entry; empty where there are none."""
        return dict(_options(self.get(name)))

    def listed(self, name: str) -> list[object]:
        """Returns a list; a single value is a list of one."""
        value = self.get(name)
        if value is None:
            return []
        return (
            list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        )

    def class_name(self, name: str) -> str:
        """Returns the last part of an entry's class path; empty where none is named."""
        value = self.get(name)
        path = value.get("class_path") if isinstance(value, Mapping) else value
        return "" if path is None else str(path).rpartition(".")[2]

    def named_class(self, name: str, base: type[Named]) -> type[Named] | None:
        """Returns the class that an entry names; None where it names none of its kind."""
        value = self.get(name)
        path = value.get("class_path") if isinstance(value, Mapping) else value
        module, _, attribute = str(path).rpartition(".")
        try:
            named = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError):
            return None
        return named if isinstance(named, type) and issubclass(named, base) else None


class FragmentReader:
    """The one reader of fragments; each file is read once per reader."""

    def __init__(self) -> None:
        self._contents: dict[Path, dict[str, Any]] = {}

    def content(self, path: Path) -> dict[str, Any]:
        """Returns a fragment's content, without comments; it may not be changed.

        Raises:
            UserError: It cannot be read, or is no mapping.
        """
        if path not in self._contents:
            content = load_located(path).data
            if not isinstance(content, dict | None):
                raise UserError(f"{path}: expected a mapping")
            self._contents[path] = content or {}
        return self._contents[path]

    def settings(self, fragments: Iterable[Path], options: Mapping[str, object]) -> Settings:
        """Returns what a run's fragments, left to right, and then its options come to."""
        tree: dict[str, object] = {}
        for path in fragments:
            _merge(tree, self.content(path))
        for name, value in options.items():
            _place(tree, name.split("."), value)
        return Settings(tree)


def read_settings(cells: Sequence[Cell]) -> dict[str, Settings]:
    """Returns the settings of each cell, by id.

    Raises:
        UserError: A fragment cannot be read.
    """
    reader = FragmentReader()
    return {
        cell.id: reader.settings(
            map(Path, cell.fragments),
            {name: yaml.safe_load(text) for name, text in cell.options.items()},
        )
        for cell in cells
    }


def default_of(owner: type, parameter: str) -> int:
    """Returns a class's own default of a whole-numbered parameter.

    Raises:
        TypeError: It has none.
    """
    default = inspect.signature(owner).parameters[parameter].default
    if not isinstance(default, int):
        raise TypeError(f"{owner.__name__}.{parameter} has the default {default!r}")
    return default


def _options(entry: object) -> Mapping[str, object]:
    """Returns what dotted names see inside an entry: past `init_args`, as on the command line."""
    if not isinstance(entry, Mapping):
        return {}
    inner = entry.get("init_args")
    return {**entry, **inner} if isinstance(inner, Mapping) else entry


def _merge(tree: dict[str, object], more: Mapping[str, object]) -> None:
    """Lays settings over others: mappings key by key, `name+` behind a list, all else replaces."""
    for key, value in more.items():
        name = key.removesuffix("+")
        mine = tree.get(name)
        if name != key:
            tree[name] = [*(mine if isinstance(mine, list) else []), *_as_list(value)]
        elif isinstance(mine, dict) and isinstance(value, Mapping):
            _merge(mine, value)
        elif isinstance(value, Mapping):
            inner: dict[str, object] = {}
            _merge(inner, value)
            tree[name] = inner
        else:
            tree[name] = value


def _place(tree: dict[str, object], path: Sequence[str], value: object) -> None:
    """Sets one option by its dotted name."""
    for part in path[:-1]:
        tree = _inside(tree)
        below = tree.get(part)
        if not isinstance(below, dict):
            # An option of a class that is named by its path alone.
            entry: dict[str, object] = {"class_path": below} if isinstance(below, str) else {}
            below = tree[part] = entry
        tree = below
    tree = _inside(tree)
    tree[path[-1]] = value


def _inside(entry: dict[str, object]) -> dict[str, object]:
    nested = "class_path" in entry or "init_args" in entry
    inner = entry.setdefault("init_args", {}) if nested else entry
    if not isinstance(inner, dict):
        raise UserError(f"init_args is {inner!r}: expected a mapping")
    return inner


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]
