"""Where a model or a tokenizer lies: a folder, or a place on the hub."""

import re
import socket
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub.constants import ENDPOINT
from transformers.utils import is_gguf_available

from common.errors import UserError
from common.options import given_path

_ON_THE_HUB = re.compile(r"(?P<name>[^@:]+)(@(?P<revision>[^:]+))?(:(?P<subfolder>.+))?")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder on disk, or a repository of the hub.

    Attributes:
        name: the folder's path, or the repository's name.
        is_folder: whether it is a folder on disk.
        options: `revision`, `subfolder` and `gguf_file` where they were given, and that no code
            from there is run, by the names of `from_pretrained`.
    """

    name: str
    is_folder: bool
    options: dict[str, str | bool]

    @property
    def looks_like_a_path(self) -> bool:
        """Whether no repository of the hub can have that name, or a folder here is meant."""
        return (
            self.name.count("/") > 1
            or self.name[:1] in ("", ".", "/", "~")
            or self.name.endswith(".gguf")
            or ("/" in self.name and Path(self.name).parent.is_dir())
        )


def place_of(source: str) -> Place:
    """Reads a source: a folder wins, else `NAME`, `NAME@REVISION`, either with `:SUBFOLDER`.

    A GGUF file is named by its path, or behind a colon within a folder or repository.

    Custom code that a repository brings is never run: without that being said, transformers would
    stop and ask.

    >>> place_of("gpt2").options
    {'trust_remote_code': False}
    >>> place_of("owner/name@v1:weights/half").options["subfolder"]
    'weights/half'
    >>> place_of("owner/name:model-q8.gguf").options["gguf_file"]
    'model-q8.gguf'
    """
    folder = given_path(source)
    if source and folder.is_dir():
        return Place(str(folder), True, {"trust_remote_code": False})
    if source.endswith(".gguf"):
        file = given_path(source)
        if file.is_file():
            return Place(
                str(file.parent), True, {"trust_remote_code": False, "gguf_file": file.name}
            )
        holder, colon, name = source.rpartition(":")
        if colon:
            place = place_of(holder)
            return replace(place, options={**place.options, "gguf_file": name})
    match = _ON_THE_HUB.fullmatch(source)
    parts = match.groupdict() if match else {"name": source}
    given = {key: parts[key] for key in ("revision", "subfolder") if parts.get(key)}
    return Place(str(parts["name"]), False, {"trust_remote_code": False, **given})


@cache
def hub_is_there() -> bool:
    """Whether the hub's name leads anywhere: without a network its client asks for half a minute,
    and again for each file. A proxy may know more names than this machine."""
    if getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(urlsplit(ENDPOINT).hostname, None))
    except OSError:
        return False


def require_gguf(place: Place) -> None:
    """Refuses a GGUF file where the package that reads it is missing.

    Raises:
        UserError: Naming the package.
    """
    file = place.options.get("gguf_file")
    if file is not None and not is_gguf_available():
        raise UserError(
            f"{file} is a GGUF file, which the package gguf reads: pip install 'kd-privacy[gguf]'"
        )
