"""YAML with the line of every key, so that a mistake in a study file is named where it stands."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from common.errors import UserError

__all__ = ["Key", "LocatedYaml", "load_located"]

Key = tuple[str | int, ...]
_STANDARD = "tag:yaml.org,2002:"
_MERGE = f"{_STANDARD}merge"
_PLAIN: dict[type[yaml.Node], str] = {
    yaml.MappingNode: f"{_STANDARD}map",
    yaml.SequenceNode: f"{_STANDARD}seq",
}
_MOST_ENTRIES = 100_000
"""Entries of a file with its aliases written out: a few of them can stand for billions."""


@dataclass(frozen=True)
class LocatedYaml:
    """A parsed file and where its entries stand.

    Attributes:
        path: The file.
        data: Plain dicts, lists and scalars.
        lines: Line (from 1) of each entry, by its path of keys and list indices; `()` is the file.
    """

    path: Path
    data: object
    lines: dict[Key, int]

    def error(self, key: Key, message: str) -> UserError:
        """Returns an error that names file, key and line, or the line of what encloses the key."""
        known = key
        while known not in self.lines:
            known = known[:-1]
        name = ".".join(str(part) for part in key)
        return UserError(f"{self.path}:{self.lines[known]}: {name + ': ' if name else ''}{message}")


def load_located(path: Path) -> LocatedYaml:
    """Reads a YAML file of plain values; `<<` merges mappings, as it does for `kd-privacy`.

    Raises:
        UserError: No such file, not UTF-8, invalid YAML, a key given twice, a tag that would make
            anything but plain values, or aliases that stand for too much.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{path}:{line}: invalid YAML: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: invalid YAML: {error.problem}") from error
    except RecursionError as error:
        raise UserError(f"{path}: invalid YAML: nested too deep") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    lines: dict[Key, int] = {(): 1}
    try:
        data = None if root is None else _value(path, root, (), lines)
    except RecursionError as error:
        raise UserError(
            f"{path}: invalid YAML: an alias lies inside its own anchor, or it is nested too deep"
        ) from error
    return LocatedYaml(path, data, lines)


def _value(path: Path, node: yaml.Node, key: Key, lines: dict[Key, int]) -> object:
    line = node.start_mark.line + 1
    if len(lines) > _MOST_ENTRIES:
        raise UserError(f"{path}:{line}: more than {_MOST_ENTRIES:,} entries, aliases written out")
    if node.tag != _PLAIN.get(type(node), node.tag):
        raise UserError(f"{path}:{line}: the tag {node.tag.replace(_STANDARD, '!!')} is not read")
    if isinstance(node, yaml.MappingNode):
        return _mapping(path, node, key, lines)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[(*key, index)] = child.start_mark.line + 1
        return [_value(path, child, (*key, index), lines) for index, child in enumerate(node.value)]
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    except (ValueError, yaml.MarkedYAMLError) as error:
        problem = getattr(error, "problem", error)
        raise UserError(f"{path}:{line}: invalid YAML: {problem}") from error
    finally:
        loader.dispose()


def _mapping(
    path: Path, node: yaml.MappingNode, key: Key, lines: dict[Key, int]
) -> dict[str, object]:
    mapping: dict[str, object] = {}
    merged: list[yaml.Node] = []
    for name_node, child in node.value:
        name = str(name_node.value)
        line = name_node.start_mark.line + 1
        if name_node.tag == _MERGE:
            merged += child.value if isinstance(child, yaml.SequenceNode) else [child]
        elif name in mapping:
            raise UserError(f"{path}:{line}: key {name!r} is given twice")
        else:
            lines[(*key, name)] = line
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
