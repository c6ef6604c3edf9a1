"""Which records of a source a run takes: by length and form, before anything is split."""

import json
from pathlib import Path

import pytest

from common.errors import UserError
from datamodules import InstructionDataModule
from datamodules.records import InstructionRecord
from datamodules.selection import Selection
from datamodules.split_options import SplitOptions


def make(words: int, context: str = "") -> InstructionRecord:
    response = " ".join(f"w{words}x{place}" for place in range(words))
    return InstructionRecord(f"id{words}", f"Say {words}.", context, response, "", f"f:{words}")


def test_bounds_are_inclusive_and_the_order_stays():
    records = [make(words) for words in (9, 1, 5, 7, 3)]
    taken = Selection(fewest_words=3, most_words=7).of(records)
    assert [len(record.response.split()) for record in taken] == [5, 7, 3]
    assert Selection().of(records) == records
    assert Selection().of([]) == []


def test_records_with_a_passage_can_be_left_out():
    records = [make(4, "A passage."), make(5)]
    assert Selection(context=False).of(records) == records[1:]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(fewest_words=9, most_words=3), "select.most_words is 3"),
        (Selection(most_words=0), "select.most_words is 0"),
        (Selection(fewest_words=-1), "select.fewest_words is -1"),
        (Selection(fewest_words=99), "select leaves none of 1 records"),
    ],
)
def test_what_no_record_can_meet_is_refused(selection: Selection, message: str):
    with pytest.raises(UserError, match=message):
        selection.of([make(4)])


def test_only_selected_records_are_split(tmp_path: Path):
    rows = [
        {"instruction": f"Ask {n}.", "response": " ".join(f"r{n}w{k}" for k in range(n % 10 + 1))}
        for n in range(400)
    ]
    source = tmp_path / "records.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = InstructionDataModule(
        str(source),
        vocabulary=300,
        template="alpaca",
        select=Selection(fewest_words=4, most_words=6),
        splits=SplitOptions(min_records=1),
    )
    data.setup("fit")
    lengths = {
        len(record.response.split())
        for split in ("private", "held_out", "public", "never", "development")
        for record in data.split(split)
    }
    assert lengths == {4, 5, 6}
    assert sum(data.counts().values()) == 120
