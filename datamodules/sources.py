"""Where a model or a tokenizer lies: a folder, or a place on the hub."""

import re
from dataclasses import dataclass
from pathlib import Path

_ON_THE_HUB = re.compile(r"(?P<name>[^@:]+)(@(?P<revision>[^:]+))?(:(?P<subfolder>.+))?")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder on disk, or a repository of the hub.

    Attributes:
        name: the folder's path, or the repository's name.
        is_folder: whether it is a folder on disk.
        options: `revision`, `subfolder` where they were given, and that no code from there is run,
            by the names of `from_pretrained`.
    """

    name: str
    is_folder: bool
    options: dict[str, str | bool]

    @property
    def looks_like_a_path(self) -> bool:
        """Whether no repository of the hub can have that name."""
        return self.name.count("/") > 1 or self.name[:1] in ("", ".", "/", "~")


def place_of(source: str) -> Place:
    """Reads a source: a folder wins, else `NAME`, `NAME@REVISION`, either with `:SUBFOLDER`.

    Custom code that a repository brings is never run: without that being said, transformers would
    stop and ask.

    >>> place_of("gpt2").options
    {'trust_remote_code': False}
    >>> place_of("owner/name@v1:weights/half").options["subfolder"]
    'weights/half'
    """
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        return Place(str(folder), True, {"trust_remote_code": False})
    match = _ON_THE_HUB.fullmatch(source)
    parts = match.groupdict() if match else {"name": source}
    given = {key: parts[key] for key in ("revision", "subfolder") if parts.get(key)}
    return Place(str(parts["name"]), False, {"trust_remote_code": False, **given})
