"""The page on audit.json names what the schema has, and its gates are gates."""

import json
import re
import shlex

from audits.answer.gate import EXAMPLE, FIELDS, FORM, Condition
from audits.answer.machine import SCHEMA_VERSION
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "audit_json.md").read_text(encoding="utf-8")
SCHEMA = json.loads((ROOT / "docs" / "audit.schema.json").read_text(encoding="utf-8"))


def objects(schema: object) -> list[dict]:
    """Every object that a schema describes with its fields."""
    if isinstance(schema, list):
        return [one for part in schema for one in objects(part)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if "additionalProperties" in schema and "properties" in schema else []
    return own + [one for part in schema.values() for one in objects(part)]


def test_every_field_of_the_schema_is_required_strict_and_on_the_page() -> None:
    described = objects(SCHEMA)
    assert len(described) > 10
    named = set(re.findall(r"`(\w+)`", PAGE))
    for one in described:
        assert one["additionalProperties"] is False
        assert set(one["required"]) == set(one["properties"])
        assert set(one["properties"]) - named - {"verdict", "figure"} == set()
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_the_gates_of_the_page_are_gates() -> None:
    commands = [line for line in PAGE.splitlines() if '--fail_if "' in line]
    words = [word for line in commands for word in shlex.split(line.rstrip("\\"))]
    lines = [word for flag, word in zip(words, words[1:], strict=False) if flag == "--fail_if"]
    assert EXAMPLE in lines
    assert [Condition.parse(line).text for line in lines] == lines
    assert FORM in PAGE
    assert all(f"`{field}`" in PAGE for field in FIELDS)
