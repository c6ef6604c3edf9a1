"""YAML with the line of every key, so that a mistake in a study file is named where it stands."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import yaml

from common.errors import UserError

Key = tuple[str | int, ...]
Loaded = TypeVar("Loaded")
_STANDARD = "tag:yaml.org,2002:"
_MERGE = f"{_STANDARD}merge"
_PLAIN: dict[type[yaml.Node], str] = {
    yaml.MappingNode: f"{_STANDARD}map",
    yaml.SequenceNode: f"{_STANDARD}seq",
}
_MOST_ENTRIES = 100_000
"""Entries of a file with its aliases written out: a few of them can stand for billions."""

_REMEMBERED = 512
"""Texts whose nodes are kept: the commands of a study name the same fragments again and again."""


@dataclass(frozen=True)
class LocatedYaml:
    """A parsed file and where its entries stand.

    Attributes:
        path: The file.
        data: Plain dicts, lists and scalars.
        lines: Line (from 1) of each entry, by its path of keys and list indices; `()` is the file.
        base: The file that this one is laid over, None where it stands by itself.
    """

    path: Path
    data: object
    lines: dict[Key, int]
    base: "LocatedYaml | None" = None

    def over(self, base: "LocatedYaml") -> "LocatedYaml":
        """Returns this file laid over another: mappings are merged, all else takes its place."""
        return replace(self, data=_merged(base.data, self.data), base=base)

    def error(self, key: Key, message: str) -> UserError:
        """Returns an error that names file, key and line, or the line of what encloses the key."""
        known = self._nearest(key)
        if self.base is not None and len(self.base._nearest(key)) > len(known):
            return self.base.error(key, message)
        name = ".".join(str(part) for part in key)
        return UserError(f"{self.path}:{self.lines[known]}: {name + ': ' if name else ''}{message}")

    def _nearest(self, key: Key) -> Key:
        while key not in self.lines:
            key = key[:-1]
        return key


def _merged(under: object, over: object) -> object:
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {**under, **{key: _merged(under.get(key), value) for key, value in over.items()}}


def load_located(path: Path) -> LocatedYaml:
    """Reads a YAML file of plain values; `<<` merges mappings, as it does for `kd-privacy`.

    Raises:
        UserError: No such file, not UTF-8, invalid YAML, a key given twice, a tag that would make
            anything but plain values, or aliases that stand for too much.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    root = _checked(text, str(path))
    lines: dict[Key, int] = {(): 1}
    data = None if root is None else _value(path, root, (), lines)
    return LocatedYaml(path, data, lines)


def load_plain(text: str, origin: str) -> object:
    """Reads YAML of plain values.

    Args:
        text: The YAML.
        origin: What errors call it.

    Raises:
        UserError: As `load_located`.
    """
    root = _checked(text, origin)
    return None if root is None else _told(origin, root, lambda: yaml.safe_load(text))


@lru_cache(_REMEMBERED)
def require_plain(text: str, origin: str) -> yaml.Node | None:
    """Refuses YAML that means another thing than it shows; for a parser that reads it anyway.

    Args:
        text: The YAML.
        origin: What errors call it.

    Returns:
        Its nodes, which nobody may alter.

    Raises:
        yaml.YAMLError: It is no YAML.
        UserError: As `load_located` of the rest.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _entries(root, origin, {})
    except RecursionError as error:
        raise UserError(f"{origin}: invalid YAML: nested too deep") from error
    return root


def _checked(text: str, origin: str) -> yaml.Node | None:
    """Returns the nodes of a text; where it is no YAML, says in which line."""
    try:
        return require_plain(text, origin)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{origin}:{line}: invalid YAML: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{origin}:{line}: invalid YAML: {error.problem}") from error


def _entries(node: yaml.Node, origin: str, known: dict[int, int]) -> int:
    """Returns how many entries a node stands for, its aliases written out.

    Args:
        node: The node.
        origin: What errors call the file.
        known: Entries of the nodes that were looked at, by their identity; 0 within the node.
    """
    line = node.start_mark.line + 1
    if known.setdefault(id(node), 0):
        return known[id(node)]
    if node.tag != _PLAIN.get(type(node), node.tag):
        raise UserError(f"{origin}:{line}: the tag {node.tag.replace(_STANDARD, '!!')} is not read")
    count = 1
    for child in _children(node, origin):
        if known.get(id(child)) == 0:
            raise UserError(f"{origin}:{line}: invalid YAML: an alias lies inside its own anchor")
        count += _entries(child, origin, known)
        if count > _MOST_ENTRIES:
            raise UserError(
                f"{origin}:{line}: more than {_MOST_ENTRIES:,} entries, aliases written out"
            )
    known[id(node)] = count
    return count


def _children(node: yaml.Node, origin: str) -> list[yaml.Node]:
    """Returns what lies in a node, whose keys are names that stand there once."""
    if not isinstance(node, yaml.MappingNode):
        return node.value if isinstance(node, yaml.SequenceNode) else []
    names: set[str] = set()
    for name, _ in node.value:
        line = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode):
            raise UserError(f"{origin}:{line}: invalid YAML: a key that is no name")
        if name.value in names and name.tag != _MERGE:
            raise UserError(f"{origin}:{line}: key {name.value!r} is given twice")
        names.add(name.value)
    return [child for _, child in node.value]


def _told(origin: str, node: yaml.Node, construct: Callable[[], Loaded]) -> Loaded:
    """Returns what is made of a node; a value that is none is told with its line."""
    try:
        return construct()
    except (ValueError, yaml.MarkedYAMLError) as error:
        mark = getattr(error, "problem_mark", None) or node.start_mark
        problem = getattr(error, "problem", error)
        raise UserError(f"{origin}:{mark.line + 1}: invalid YAML: {problem}") from error


def _value(path: Path, node: yaml.Node, key: Key, lines: dict[Key, int]) -> object:
    if isinstance(node, yaml.MappingNode):
        return _mapping(path, node, key, lines)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[(*key, index)] = child.start_mark.line + 1
        return [_value(path, child, (*key, index), lines) for index, child in enumerate(node.value)]
    loader = yaml.SafeLoader("")
    try:
        return _told(str(path), node, lambda: loader.construct_object(node))
    finally:
        loader.dispose()


def _mapping(
    path: Path, node: yaml.MappingNode, key: Key, lines: dict[Key, int]
) -> dict[str, object]:
    mapping: dict[str, object] = {}
    merged: list[yaml.Node] = []
    for name_node, child in node.value:
        name = str(name_node.value)
        if name_node.tag == _MERGE:
            merged += child.value if isinstance(child, yaml.SequenceNode) else [child]
        else:
            lines[(*key, name)] = name_node.start_mark.line + 1
            mapping[name] = _value(path, child, (*key, name), lines)
    for other in merged:
        if not isinstance(other, yaml.MappingNode):
            line = other.start_mark.line + 1
            raise UserError(f"{path}:{line}: invalid YAML: << takes a mapping")
        theirs: dict[Key, int] = {}
        more = _mapping(path, other, key, theirs)
        lines |= {there: at for there, at in theirs.items() if there[len(key)] not in mapping}
        mapping = more | mapping
    return mapping
