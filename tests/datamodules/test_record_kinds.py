"""Records of every kind, told apart by their fields."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from datamodules.records import (
    InstructionRecord,
    RecordKind,
    content_id,
    read_records,
    records_from_rows,
)

USER = {"role": "user", "content": "Ask the weather."}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Ulm"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ANSWER = {"role": "assistant", "content": "It rains."}


def read(*rows: object) -> list[InstructionRecord]:
    return records_from_rows([(f"f:{n}", row) for n, row in enumerate(rows, start=1)], "f")


def fault(*rows: object) -> str:
    with pytest.raises(UserError) as caught:
        read(*rows)
    message = str(caught.value)
    assert "\n" not in message
    assert "secret" not in message
    return message


@pytest.mark.parametrize(
    ("row", "kind", "texts"),
    [
        ({"instruction": "a", "input": "b", "output": "c", "text": "abc"}, "instruction", "a|b|c"),
        ({"prompt": "a", "completion": " b"}, "completion", "a|| b"),
        ({"question": "a", "answer": "b", "context": "not read"}, "completion", "a||b"),
        ({"text": "a b"}, "text", "||a b"),
        ({"messages": [USER, ANSWER]}, "chat", "Ask the weather.||It rains."),
        ({"messages": json.dumps([USER, ANSWER])}, "chat", "Ask the weather.||It rains."),
        ({"prompt": [USER], "completion": [ANSWER]}, "chat", "Ask the weather.||It rains."),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            "chat",
            "a||b",
        ),
    ],
)
def test_fields_tell_the_kind(row: dict[str, object], kind: str, texts: str):
    (record,) = read(row)
    assert (record.kind, record.task, record.subject) == (RecordKind(kind), "", None)
    assert [record.instruction, record.context, record.response] == texts.split("|")
    assert read(record.row) == [InstructionRecord(**{**as_dict(record), "origin": "f:1"})]


def as_dict(record: InstructionRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in InstructionRecord.__slots__}


def test_turns_of_a_chat():
    turns = [
        {"from": "system", "value": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c", "name": None},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "rain", "tool_call_id": "1"},
        {"role": "assistant", "content": "So.", "tool_calls": []},
    ]
    (record,) = read({"messages": turns, "tools": json.dumps([TOOL])})
    assert record.chat is not None
    assert record.chat.messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "ab"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "rain", "tool_call_id": "1"},
        {"role": "assistant", "content": "So."},
    )
    assert record.chat.tools == (TOOL,)
    called = json.dumps([CALL], sort_keys=True)
    assert record.instruction == "\n".join(["Be brief.", "ab", "c", called, "rain"])
    assert record.response == "So."
    assert record.id == record.content
    (last,) = read({"messages": [USER, turns[3]]})
    assert last.response == called


def test_the_content_covers_every_turn_and_tool():
    plain = {"messages": [{"role": "system", "content": "a"}, USER, ANSWER]}
    called = {"messages": [USER, {**ANSWER, "tool_calls": [CALL]}]}
    other = {**CALL, "function": {"name": "weather", "arguments": {"city": "Bonn"}}}
    rows = [
        plain,
        {"messages": [{"role": "user", "content": "a"}, USER, ANSWER]},
        {**plain, "tools": [TOOL]},
        {"messages": [USER, ANSWER]},
        called,
        {"messages": [USER, {**ANSWER, "tool_calls": [other]}]},
    ]
    assert len({record.content for record in read(*rows)}) == len(rows)
    assert read({"text": "a"})[0].content == content_id("", "", "a")


def test_parquet_files_give_the_same_chats_as_lines(tmp_path: Path):
    rows = [
        {"messages": [USER, ANSWER], "tools": None},
        {"messages": [USER, {**ANSWER, "tool_calls": [CALL]}], "tools": [TOOL]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines, columns = (read_records(str(tmp_path / name)) for name in ("a.jsonl", "a.parquet"))
    assert [r.chat and r.chat.messages for r in lines] == [
        r.chat and r.chat.messages for r in columns
    ]
    assert [r.content for r in lines] == [r.content for r in columns]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [USER, ANSWER, USER]}, "message 3 of 'messages', the last one, is of the"),
        ({"messages": []}, "field 'messages' holds no message"),
        ({"messages": "secret"}, "field 'messages' must be a list, found str"),
        ({"messages": [USER, "secret"]}, "message 2 of 'messages' must be an object"),
        ({"messages": [{"role": "secret", "content": "a"}]}, "message 1 of 'messages' has an unkn"),
        ({"messages": [{"content": "secret"}]}, "message 1 of 'messages' has no role"),
        ({"messages": [USER, {"role": "assistant"}]}, "has neither content nor tool_calls"),
        ({"messages": [USER, {**ANSWER, "content": 5}]}, "its content must be text, found int"),
        ({"messages": [USER, {**ANSWER, "content": [{"type": "image"}]}]}, "a part that is no te"),
        ({"messages": [USER, {**ANSWER, "content": " "}]}, "empty last message"),
        ({"messages": [USER, {**ANSWER, "content": "\ud83d"}]}, "half a surrogate pair"),
        ({"messages": [USER, ANSWER], "tools": ["secret"]}, "tool 1 must be an object, found str"),
        ({"prompt": "secret", "completion": [ANSWER]}, "must be both text or both lists of messa"),
        ({"prompt": "", "completion": "secret"}, "empty prompt"),
        ({"prompt": "secret", "completion": "\n"}, "empty completion"),
        ({"prompt": "secret"}, "missing field 'completion'; it has prompt"),
        ({"text": ["secret"]}, "field 'text' must be text, found list"),
        (
            {"body": "secret"},
            "has a field of another name; a record has one of these groups: instr",
        ),
        ({"text": "secret", "subject": 1.5}, "field 'subject' must be text or a whole number"),
    ],
)
def test_a_fault_names_place_and_field_but_no_text(row: dict[str, object], expected: str):
    message = fault(row)
    assert message.startswith("f:1: ")
    assert expected in message


def test_one_kind_per_file():
    message = fault({"text": "secret"}, {"text": "b"}, {"prompt": "a", "completion": "secret"})
    assert message == (
        "f:3: has the fields prompt, completion (completion), where f:1 has text (text): "
        "give one kind of rows per file"
    )
    both = {"prompt": [USER], "completion": [ANSWER]}
    assert fault({"prompt": "a", "completion": "b"}, both).startswith(
        "f:2: has the fields prompt, completion (chat), where f:1 has prompt, completion (compl"
    )


def test_categories_are_few() -> None:
    rows = [{"text": f"secret {n}", "category": n} for n in range(65)]
    assert [record.task for record in read(*rows[1:])] == [str(n) for n in range(1, 65)]
    assert fault(*rows).startswith("f: the field 'category' has 65 names, more than 64")
