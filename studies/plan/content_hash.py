"""Hashes of what decides a cell's result: settings by meaning, files by content, not by path."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from studies.plan.settings import FragmentReader

# Where something is kept that can be computed again, and no part of what a cell is.
_CACHES = ("model.teacher_cache.folder", "model.init_args.teacher_cache.folder")

# A file that is not there before the first cell has made it.
_KEYS = ("data.pseudonymise", "data.init_args.pseudonymise")


class ContentHasher:
    """Hashes fragments, options and files; each file is read once per hasher.

    Args:
        reader: Reader of the fragments.
    """

    def __init__(self, reader: FragmentReader) -> None:
        self._reader = reader
        self._files: dict[Path, str] = {}
        self._fragments: dict[Path, object] = {}

    def digest(self, value: object) -> str:
        """Returns the SHA-256 of plain values, in hexadecimal, whatever the order of their keys."""
        text = json.dumps(value, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def fragment(self, path: Path) -> object:
        """Returns a fragment's parsed content (no comments) with files as their hashes."""
        if path not in self._fragments:
            # A file of comments alone holds nothing.
            self._fragments[path] = self._resolved(self._reader.content(path) or None, "")
        return self._fragments[path]

    def options(self, options: Mapping[str, object]) -> object:
        """Returns options with files as their hashes."""
        return self._resolved(dict(options), "")

    def path(self, path: Path) -> str:
        """Returns the hash of a file, or of a folder's files and their names."""
        if path.is_file():
            if path not in self._files:
                with path.open("rb") as file:
                    self._files[path] = hashlib.file_digest(file, "sha256").hexdigest()
            return self._files[path]
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return self.digest([[str(file.relative_to(path)), self.path(file)] for file in inside])

    def _resolved(self, value: object, option: str) -> object:
        if option in _CACHES:
            return None
        if option in _KEYS:
            return value
        if isinstance(value, dict):
            within = f"{option}." if option else ""
            return {key: self._resolved(item, f"{within}{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item, option) for item in value]
        if isinstance(value, str) and _looks_like_path(value) and Path(value).exists():
            return {"content": self.path(Path(value))}
        return value


def _looks_like_path(text: str) -> bool:
    # A bare word such as `teacher` is a value even where a folder of that name happens to exist.
    return len(text) < 4096 and "\n" not in text and (os.sep in text or bool(Path(text).suffix))
