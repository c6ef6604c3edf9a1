"""What the tests of the fragments share: where they lie, and how one is read."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"


def read_fragment(name: str) -> dict[str, Any]:
    """The contents of ``configs/<name>.yaml``."""
    contents = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(contents, dict), f"{name} is no mapping"
    return contents
