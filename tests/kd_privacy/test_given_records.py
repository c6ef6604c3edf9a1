"""Records of every kind as a caller of `kd_privacy.audit` may give them."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from common.errors import UserError
from datamodules.records import TASKS, InstructionRecord, RecordKind
from kd_privacy.given_records import given_records

CHATS = [
    [{"role": "user", "content": f"ask {n}"}, {"role": "assistant", "content": f"answer {n}"}]
    for n in range(3)
]
TEXTS = ["first text", "second text"]
MEMBERS = [{"instruction": f"ask {n}", "response": f"answer {n}"} for n in range(3)]
OWN = InstructionRecord("mine", "Say it.", "", "It.", "open_qa", "here")


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


def test_rows_keep_their_task_in_every_form_or_get_the_default(tmp_path: Path) -> None:
    rows = [{**row, "category": task} for row, task in zip(MEMBERS, TASKS, strict=False)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    read = given_records(path, "members")
    assert [one.task for one in read] == list(TASKS[:3])
    for form in (str(path), rows, tuple(rows), Dataset.from_list(rows), read):
        again = given_records(form, "members")
        assert told(again) == told(read)
        assert [one.task for one in again] == list(TASKS[:3])
    assert {one.task for one in given_records(MEMBERS, "members", "open_qa")} == {"open_qa"}


@pytest.mark.parametrize(
    ("records", "line"),
    [
        (
            [[{"role": "user", "content": "Hello"}]],
            r"members\[0\]: message 1 of 'messages'",
        ),
        ([{"role": "user", "content": "Hello"}], r"members\[0\] is one message"),
        (["Once upon a time", MEMBERS[1]], r"members\[1\]: has the fields instruction"),
        ([MEMBERS[1], 3], r"members\[1\] is a int"),
        ([{"instruction": "Say it."}], r"members\[0\]: missing field 'response' or 'output'"),
        (DatasetDict({"train": Dataset.from_list(MEMBERS)}), "members holds the splits train"),
        ({"instruction": []}, "members is a dict"),
        (pd.DataFrame(MEMBERS), "members is a DataFrame: give a path"),
        (
            [replace(OWN, response=text) for text in ("It.", "That.")],
            "its id already names another record",
        ),
        ([], "members: holds no record"),
    ],
)
def test_what_is_no_instruction_row_is_named(records: object, line: str) -> None:
    with pytest.raises(UserError, match=line):
        given_records(records, "members")


def test_a_record_of_ones_own_making_is_taken_as_it_is() -> None:
    assert given_records([OWN], "members") == [OWN]
    # As in a file, white space is no response: scored, it would give its side away.
    assert given_records([replace(OWN, response=" ")], "members")[0].response == ""
