"""Typed reading of a YAML file: what is refused is named by file, line and key."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from common.located_yaml import Key, LocatedYaml

__all__ = ["CheckedYaml"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class CheckedYaml:
    """Accessors that take the key of a value (for messages) and the value.

    All raise `UserError`.

    Args:
        source: The parsed file.
        configs: Folder of the fragments.
    """

    def __init__(self, source: LocatedYaml, configs: Path) -> None:
        self.source = source
        self.configs = configs

    def mapping(
        self, key: Key, value: object, keys: Sequence[str] | None, required: str = ""
    ) -> dict[str, object]:
        """Returns a mapping with no key outside `keys` (None: any)."""
        if not isinstance(value, dict):
            raise self.source.error(key, f"expected a mapping, found {value!r}")
        for name in value if keys is not None else ():
            if name not in (keys or ()):
                near = difflib.get_close_matches(name, keys or (), 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(keys or ())}"
                raise self.source.error((*key, name), f"unknown key; {hint}")
        if required and required not in value:
            raise self.source.error(key, f"the key {required!r} is missing")
        return value

    def items(self, key: Key, value: object, least: int = 0) -> list[object]:
        """Returns a list of at least so many items."""
        if not isinstance(value, list) or len(value) < least:
            found = f"expected a list of at least {least}" if least else "expected a list"
            raise self.source.error(key, f"{found}, found {value!r}")
        return value

    def text(self, key: Key, value: object) -> str:
        """Returns a string."""
        if not isinstance(value, str):
            raise self.source.error(key, f"expected text, found {value!r}")
        return value

    def name(self, key: Key, value: object) -> str:
        """Returns a string that is fit for a folder."""
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self.source.error(
                key, f"expected a name of letters, digits, - and _, found {value!r}"
            )
        return value

    def choice(self, key: Key, value: object, options: Sequence[str]) -> str:
        """Returns one of a few words."""
        if value not in options:
            raise self.source.error(key, f"expected one of {', '.join(options)}, found {value!r}")
        return str(value)

    def boolean(self, key: Key, value: object) -> bool:
        """Returns true or false."""
        if not isinstance(value, bool):
            raise self.source.error(key, f"expected true or false, found {value!r}")
        return value

    def integer(self, key: Key, value: object, least: int) -> int:
        """Returns an integer."""
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.source.error(
                key, f"expected an integer of at least {least}, found {value!r}"
            )
        return value

    def integers(self, key: Key, value: object, least: int) -> tuple[int, ...]:
        """Returns distinct integers."""
        items = self.items(key, value, least=1)
        numbers = tuple(self.integer((*key, i), item, least) for i, item in enumerate(items))
        if len(set(numbers)) < len(numbers):
            raise self.source.error(key, f"a number is there twice in {list(numbers)}")
        return numbers

    def options(self, key: Key, value: object) -> dict[str, object]:
        """Returns `kd-privacy` options: dotted names and their values."""
        options = self.mapping(key, value, None)
        for name, option in options.items():
            if isinstance(option, dict):
                raise self.source.error(
                    (*key, name), "write nested options with dots: `trainer.max_epochs: 3`"
                )
        return options

    def fragment(self, key: Key, value: object, kind: str) -> Path:
        """Returns the path of a fragment: `configs/<kind>/<value>.yaml`, or a path as given."""
        text = self.text(key, value)
        if "/" in text or text.endswith((".yaml", ".yml")):
            candidates = [self.source.path.parent / text, Path(text)]
        else:
            candidates = [self.configs / kind / f"{text}.yaml"]
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        message = f"no such fragment: {' or '.join(str(path) for path in candidates)}"
        there = sorted(path.stem for path in candidates[0].parent.glob("*.yaml"))
        raise self.source.error(key, message + (f"; there are {', '.join(there)}" if there else ""))

    def fragments(self, key: Key, value: object, kind: str) -> tuple[Path, ...]:
        """Returns the paths of a list of fragments."""
        return tuple(
            self.fragment((*key, index), item, kind)
            for index, item in enumerate(self.items(key, value))
        )
