"""Records of every kind as a caller of `kd_privacy.audit` may give them."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from datamodules.records import InstructionRecord, RecordKind
from kd_privacy.given_records import given_records

CHATS = [
    [{"role": "user", "content": f"ask {n}"}, {"role": "assistant", "content": f"answer {n}"}]
    for n in range(3)
]
TEXTS = ["first text", "second text"]


def told(records: list[InstructionRecord]) -> list[tuple[object, ...]]:
    return [(one.kind, one.id, one.content, one.instruction, one.response) for one in records]


@pytest.mark.parametrize(
    ("given", "field", "kind"), [(CHATS, "messages", "chat"), (TEXTS, "text", "text")]
)
def test_messages_and_texts_are_the_same_in_every_form(
    given: list[object], field: str, kind: str, tmp_path: Path
) -> None:
    rows = [{field: one} for one in given]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    read = given_records(path, "members")
    assert {one.kind for one in read} == {RecordKind(kind)}
    for form in (given, rows, read, Dataset.from_list(rows), str(path)):
        assert told(given_records(form, "members")) == told(read)
    other = Dataset.from_list(rows).rename_column(field, "own")
    assert told(given_records(other, "members", columns={field: "own"})) == told(read)
