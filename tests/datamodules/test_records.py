"""Records and their readers: one line per user mistake, with file and line."""

import csv
import gzip
import hashlib
import io
import itertools
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from datamodules.records import TASKS, content_id, read_records

ROW = {"instruction": "Name a river.", "context": "", "response": "Elbe", "category": "open_qa"}


def write_jsonl(path: Path, *rows: object) -> str:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return str(path)


def fault(path: str, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read_records(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_content_id_is_the_documented_hash():
    instruction, context, response = "  Cafe\u0301\t\n au  lait?", "", " Ja\u00a0. "
    text = "\x1f".join(["Café au lait?", "", "Ja ."])
    assert unicodedata.is_normalized("NFC", text)
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert content_id(instruction, context, response) == expected
    assert content_id("a", "b", "") != content_id("a", "", "b")
    assert content_id("Elbe", "", "x") != content_id("elbe", "", "x")


def test_every_format_reads_the_same_records(tmp_path: Path):
    rows = [ROW, {**ROW, "instruction": 'Say "é, ü"\nplease.', "context": "one\ntwo", "id": "x7"}]
    rows = [{"id": "r1", **row} for row in rows]
    write_jsonl(tmp_path / "a.jsonl", *rows)
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1), "utf-8")
    header = "id,instruction,context,response,category\n"
    cells = 'r1,Name a river.,,Elbe,open_qa\nx7,"Say ""é, ü""\nplease.","one\ntwo",Elbe,open_qa\n'
    (tmp_path / "a.csv").write_text(header + cells, "utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "folder"))
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(
        str(tmp_path / "splits")
    )
    read = {
        name: read_records(str(tmp_path / name))
        for name in ("a.jsonl", "a.json", "a.csv", "a.parquet", "folder", "splits")
    }
    for name, records in read.items():
        assert [(r.id, r.instruction, r.context, r.response, r.task) for r in records] == [
            ("r1", "Name a river.", "", "Elbe", "open_qa"),
            ("x7", 'Say "é, ü"\nplease.', "one\ntwo", "Elbe", "open_qa"),
        ], name
    assert [r.origin.removeprefix(str(tmp_path)) for r in read["a.jsonl"]] == [
        "/a.jsonl:1",
        "/a.jsonl:2",
    ]
    assert [r.origin.split(":")[-1] for r in read["a.json"]] == ["row 1", "row 2"]
    assert [r.origin.split(":")[-1] for r in read["a.csv"]] == ["2", "3"]
    assert read["a.parquet"][1].origin.endswith("a.parquet:row 2")
    assert read["splits"][1].origin.endswith("splits[train]:row 2")


def test_field_names_of_other_data_sets_and_categories(tmp_path: Path):
    rows = [
        {"instruction": str(i), "input": "c", "output": "o", "category": category}
        for i, category in enumerate([*TASKS, "creative_writing", "general_qa"])
    ]
    records = read_records(write_jsonl(tmp_path / "a.jsonl", *rows))
    assert [r.task for r in records] == [*TASKS, "generation", "generation"]
    assert {(r.context, r.response) for r in records} == {("c", "o")}
    assert records[0].id == content_id("0", "c", "o")


def test_byte_order_mark_blank_lines_and_missing_context(tmp_path: Path):
    row = {key: value for key, value in ROW.items() if key != "context"}
    text = "\n\n" + json.dumps(row) + "\r\n  \n" + json.dumps({**row, "response": "Oder"})
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    records = read_records(str(tmp_path / "a.jsonl"))
    assert [(r.origin.split(":")[-1], r.context) for r in records] == [("3", ""), ("5", "")]


def test_a_category_is_a_free_name_and_may_be_missing(tmp_path: Path):
    rows = [{"instruction": "i", "output": "o"}, {**ROW, "category": " own name "}]
    path = write_jsonl(tmp_path / "a.jsonl", *rows)
    assert [record.task for record in read_records(path)] == ["", "own name"]
    assert [r.task for r in read_records(path, default_task="chat")] == ["chat", "own name"]
    assert read_records(path, default_task="general_qa")[0].task == "generation"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"response": None}, "missing field 'response' or 'output'; it has instruction, context"),
        ({"instruction": None}, "missing field 'instruction'"),
        ({"response": " \n"}, "empty response"),
        ({"instruction": ""}, "empty instruction"),
        ({"category": ["a"]}, "field 'category' must be text or a whole number, found list"),
        ({"response": 5}, "field 'response' must be text, found int"),
        ({"context": ["a"]}, "field 'context' must be text, found list"),
        ({"id": 1.5}, "field 'id' must be text or a whole number, found float"),
        ({"context": "a", "input": "b"}, "fields 'context' and 'input' differ"),
    ],
)
def test_a_bad_record_is_one_line_with_file_and_line(
    tmp_path: Path, change: dict[str, object], expected: str
):
    path = write_jsonl(tmp_path / "bad.jsonl", ROW, {**ROW, **change})
    message = fault(path)
    assert message.startswith(f"{path}:2: ")
    assert expected in message


def test_half_a_surrogate_pair(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**ROW, "response": "\ud83d"}))
    assert "half a surrogate pair" in fault(str(path))


def test_an_empty_response_is_kept_where_an_audit_reads(tmp_path: Path):
    path = write_jsonl(tmp_path / "a.jsonl", {**ROW, "response": "  "})
    assert read_records(path, allow_empty_response=True)[0].response == ""


def test_invalid_json(tmp_path: Path):
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps(ROW) + '\n{"instruction": "x",\n')
    assert fault(str(lines)).startswith(f"{lines}:2: invalid JSON at column")
    whole = tmp_path / "a.json"
    for text, place, reason in (
        ('[\n{"instruction": "x"}\n{}]', ":3", "invalid JSON at column 1"),
        ('[\n\n{"instruction" "x"}]', ":3", "invalid JSON at column 16"),
        ('{"instruction": "x"}', "", "expected one list of records"),
        (f"[{json.dumps(ROW)}]\n7", ":2", "invalid JSON at column 1: Extra data"),
        (f"[{json.dumps(ROW)}, 3]", ":row 2", "expected an object with named fields, found int"),
        ("[", ":1", "invalid JSON"),
    ):
        whole.write_text(text)
        message = fault(str(whole))
        assert message.startswith(f"{whole}{place}: "), message
        assert reason in message


def test_csv_faults(tmp_path: Path):
    path = tmp_path / "a.csv"
    header = "instruction,response,category\n"
    for text, line, reason in (
        (header + "a,b,open_qa\nc,d\n", 3, "2 cells where the header has 3"),
        (header + 'a,"b,open_qa\n', 2, "invalid CSV"),
        ("a,a\n1,2\n", 1, "the header names a field of another name more than once"),
        (header + '"two\nlines",b,open_qa\na,,open_qa\n', 4, "empty response"),
    ):
        path.write_text(text)
        message = fault(str(path))
        assert message.startswith(f"{path}:{line}: "), message
        assert reason in message


def test_wrong_encoding_names_line_and_byte(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    first = json.dumps(ROW) + "\n"
    path.write_bytes(first.encode() + '{"instruction": "Café"}'.encode("latin-1"))
    place = len(first) + len('{"instruction": "Caf')
    assert fault(str(path)).startswith(f"{path}:2: byte {place} of the file (0xe9) is not UTF-8")


def test_semicolons_tabs_and_utf16_as_spreadsheets_write_them(tmp_path: Path):
    table = [
        ["prompt", "completion", "category"],
        ["a; b", "c, d\te", "\u00e4"],
        ["two\r\nlines", "f", ""],
    ]
    for delimiter, encoding in (
        (";", "utf-8-sig"),
        ("\t", "utf-16"),
        (",", "utf-8"),
        (";", "utf-16-be"),
    ):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter).writerows(table)
        mark = "\ufeff" if encoding == "utf-16-be" else ""
        path = tmp_path / "a.csv"
        path.write_bytes((mark + text.getvalue()).encode(encoding))
        assert [(r.instruction, r.response, r.task) for r in read_records(str(path))] == [
            ("a; b", "c, d\te", "\u00e4"),
            ("two\r\nlines", "f", ""),
        ]
    path.write_text("text\na; b\nc\td\n")
    assert [record.response for record in read_records(str(path))] == ["a; b", "c\td"]
    path.write_text("instruction;reply\na;b\n")
    assert "a.csv:2: missing field 'response' or 'output'; it has instruction and 1 more" in fault(
        str(path)
    )


def test_compressed_files(tmp_path: Path):
    content = {
        "a.jsonl": json.dumps(ROW),
        "a.json": json.dumps([ROW]),
        "a.csv": ",".join(ROW) + "\n" + ",".join(ROW.values()),
    }
    for name, text in content.items():
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress(text.encode("utf-16")))
        (record,) = read_records(str(path))
        assert (record.response, record.task) == ("Elbe", "open_qa")
    path.write_bytes(path.read_bytes()[:-9])
    assert "a.csv.gz: not a whole gzip file" in fault(str(path))
    path.write_text("not compressed")
    assert "a.csv.gz: not a whole gzip file" in fault(str(path))


def test_encodings_that_are_refused(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(ROW).encode("utf-32"))
    assert fault(str(path)) == f"{path}: is in UTF-32; save the file as UTF-8"
    path.write_bytes(json.dumps(ROW).encode("utf-16")[:-1])
    assert fault(str(path)).startswith(f"{path}: begins as UTF-16 and is none")


def test_columns_that_are_null_in_the_first_rows(tmp_path: Path):
    rows = [{**ROW, "category": None, "context": None, "id": None, "subject": None}] * 3
    rows.append({**ROW, "context": "c", "id": "x", "subject": 7})
    write_jsonl(tmp_path / "a.jsonl", *rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        records = read_records(str(tmp_path / name))
        assert [(r.context, r.task, r.subject) for r in records[2:]] == [
            ("", "", None),
            ("c", "open_qa", "7"),
        ]


def test_columns_rename_fields(tmp_path: Path):
    row = {"question": "q", "answer": "a", "passage": "p", "output": "o", "who": 3, "text": "t"}
    row["instruction"] = "i"
    path = write_jsonl(tmp_path / "a.jsonl", row, {**row, "passage": None})
    columns = {"instruction": "question", "response": "answer", "context": "passage"}
    records = read_records(path, columns={**columns, "subject": "who"})
    assert [(r.instruction, r.context, r.response, r.subject) for r in records] == [
        ("q", "p", "a", "3"),
        ("q", "", "a", "3"),
    ]
    named = read_records(path, columns={"text": "answer"})  # though each is a whole instruction row
    assert [(record.kind, record.response) for record in named] == [("text", "a")] * 2
    message = fault(path, columns={"response": "reply"})
    assert message == (
        f"{path}:1: there is no field 'reply', which columns names for 'response'; it has "
        "question, answer, output, text, instruction and 2 more"
    )
    assert fault(path, columns={"reply": "answer"}).startswith("columns: no record has a field 're")


def test_a_stream_is_read_as_far_as_it_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    given = []

    def load_dataset(name: str, split: str, streaming: bool) -> Iterator[dict[str, str]]:
        for number in itertools.count():
            given.append(number)
            yield {"text": f"t{number}"}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    records = read_records("owner/name", streaming=True, max_rows=3)
    assert [record.response for record in records] == ["t0", "t1", "t2"]
    assert len(given) == 3
    assert "say by max_rows how many" in fault("owner/name", streaming=True)
    assert fault("owner/name", max_rows=0) == "max_rows is 0: give 1 or more"
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"}, {"body": "c"})
    assert len(read_records(path, max_rows=2)) == 2


def test_missing_and_unreadable_sources(tmp_path: Path):
    assert "no such file" in fault(str(tmp_path / "none.jsonl"))
    (tmp_path / "a.txt").write_text("x")
    assert "unknown kind of file" in fault(str(tmp_path / "a.txt"))
    (tmp_path / "a.parquet").write_bytes(b"PAR0")
    assert "not a readable Parquet file" in fault(str(tmp_path / "a.parquet"))
    assert "save_to_disk" in fault(str(tmp_path))
    (tmp_path / "a.jsonl").write_text("\n")
    assert "holds no record" in fault(str(tmp_path / "a.jsonl"))
    split = datasets.DatasetDict({"test": datasets.Dataset.from_list([ROW])})
    split.save_to_disk(str(tmp_path / "f"))
    assert "no split 'train'; it has test" in fault(str(tmp_path / "f"))


def test_a_hub_name_goes_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        asked.append((name, split))
        if name == "none/none":
            raise ConnectionError("no network\nsecond line")
        return datasets.Dataset.from_list([ROW])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    records = read_records("databricks/databricks-dolly-15k", hub_split="test")
    assert asked == [("databricks/databricks-dolly-15k", "test")]
    assert records[0].origin == "databricks/databricks-dolly-15k[test]:row 1"
    assert "ConnectionError: no network" in fault("none/none")


def test_one_id_for_two_contents(tmp_path: Path):
    rows = [{**ROW, "id": "a"}, {**ROW, "id": "a"}, {**ROW, "id": "a", "response": "Oder"}]
    assert len(read_records(write_jsonl(tmp_path / "ok.jsonl", *rows[:2]))) == 2
    path = write_jsonl(tmp_path / "bad.jsonl", *rows)
    message = fault(path)
    assert message.startswith(f"{path}:3: its id already names another record at {path}:1")
