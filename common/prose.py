"""Prose and names that a module shows, kept as text beside its code."""

from pathlib import Path
from typing import Any

import yaml


def prose(module: str) -> dict[str, Any]:
    """Returns what a module says: the content of the YAML file of its name beside it.

    Args:
        module: The module's `__file__`.
    """
    text = Path(module).with_suffix(".yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content
