"""JSON and YAML files that a command of ours wrote, read whole or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, first_line


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: The file.
        advice: How to go on without it.

    Raises:
        UserError: It is cut short, or none.
    """
    return _read(path, advice, json.loads)


def read_yaml(path: Path, advice: str) -> dict[str, Any]:
    """Reads a YAML mapping; arguments and errors are those of `read_json`."""
    return _read(path, advice, yaml.safe_load)


def _read(path: Path, advice: str, parse: Callable[[str], object]) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read whole ({first_line(error)}): {advice}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold what was written there: {advice}")
    return content
