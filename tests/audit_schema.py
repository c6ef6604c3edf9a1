"""The published schema of audit.json."""

import json
from pathlib import Path
from typing import Any

import jsonschema

from tests.processes import ROOT


def valid_audit(path: Path) -> dict[str, Any]:
    """Returns what a file holds that the schema, itself checked, admits."""
    schema = json.loads((ROOT / "docs" / "audit.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    validator(schema).validate(content)
    return content
