"""The texts of the built-in corpus: data files beside this module, each read once."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def texts(name: str) -> dict[str, Any]:
    """Reads a data file.

    Args:
        name: the file without its ending, such as "documents".

    Returns:
        Its content, shared by all callers: not to be changed.
    """
    content = files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def words(lists: str) -> Sequence[str]:
    """Returns a word list, or several one after the other.

    >>> len(words("dish")), len(words("dish|instrument"))
    (22, 42)

    Args:
        lists: keys of words.yaml, joined by "|".
    """
    return [word for name in lists.split("|") for word in texts("words")[name]]
