"""Sensitive spans are read in every form of a record, and what is none is refused in one line."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from common.errors import UserError
from datamodules.records import InstructionRecord, read_records, records_from_rows
from datamodules.sensitive import SensitiveSpan
from datamodules.synthetic import generate_records

SAID = "Anna lives at 12 Mill Lane, anna@example.org."
SPANS = {"name": ["Anna"], "address": ["12 Mill Lane"]}


def read(row: dict[str, object]) -> InstructionRecord:
    return records_from_rows([("file.jsonl:1", row)], "file.jsonl")[0]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Who?", "response": SAID},
        {"prompt": "Who?", "completion": SAID},
        {"question": "Who?", "answer": SAID},
        {"text": SAID},
        {
            "messages": [
                {"role": "user", "content": "Who?"},
                {"role": "assistant", "content": SAID},
            ]
        },
    ],
)
def test_every_kind_of_record_may_have_spans(row: dict[str, object]) -> None:
    one = read({**row, "sensitive": SPANS})
    assert one.sensitive == (
        SensitiveSpan("Anna", "name"),
        SensitiveSpan("12 Mill Lane", "address"),
    )
    assert read(one.row).sensitive == one.sensitive
    assert read(row).sensitive == ()


def test_a_list_is_told_apart_by_its_form_and_spans_count_once() -> None:
    spans = ["Anna", "anna@example.org", "12 Mill Lane", "Anna"]
    one = read({"instruction": "Who?", "response": SAID, "sensitive": spans})
    assert [span.type for span in one.sensitive] == ["words", "email", "number"]
    alone = read({"instruction": "Who?", "response": SAID, "sensitive": "Anna"})
    assert alone.sensitive == (SensitiveSpan("Anna", "words"),)


def test_files_hold_them(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Who?", "response": SAID, "private": ["Anna"]},
        {"instruction": "Where?", "response": "At home.", "private": None},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = read_records(str(path), columns={"sensitive": "private"})
    assert [len(one.sensitive) for one in found] == [1, 0]
    typed = [{**row, "private": SPANS if row["private"] else None} for row in rows]
    table = tmp_path / "rows.csv"
    table.write_text('text,sensitive\n"Anna, 12","[""Anna"", ""12""]"\nNobody,\n', encoding="utf-8")
    assert [len(one.sensitive) for one in read_records(str(table))] == [2, 0]
    Dataset.from_list(typed).to_parquet(tmp_path / "rows.parquet")
    found = read_records(str(tmp_path / "rows.parquet"), columns={"sensitive": "private"})
    assert [len(one.sensitive) for one in found] == [2, 0]


@pytest.mark.parametrize(
    ("sensitive", "message"),
    [
        (["Anna", "Berta"], "file.jsonl:1: sensitive span number 2 is not in the response"),
        ([3], "number 1 must be a text, found int"),
        ("[Anna", "field 'sensitive' is no JSON"),
        (7, "must be a list of texts, or lists by type, found int"),
        ({"Anna lives at": ["Anna"], "a b/c": ["Anna"]}, "a type of the field 'sensitive'"),
    ],
)
def test_what_is_no_span_is_refused_without_its_text(sensitive: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        read({"instruction": "Who?", "response": SAID, "sensitive": sensitive})
    assert "Berta" not in str(refused.value)


def test_the_built_in_corpus_knows_its_names_numbers_and_addresses() -> None:
    records = generate_records(700, seed=4)
    spans = [(one, span) for one in records for span in one.sensitive]
    assert all(span.text in one.response for one, span in spans)
    assert {span.type for _, span in spans} == {"name", "number", "address"}
    asked = [one for one, span in spans if span.text not in one.instruction + one.context]
    assert len(asked) > 150
