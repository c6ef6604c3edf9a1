"""Names of records outside of private folders, and the way back."""

import hashlib
import hmac
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from common.errors import UserError
from datamodules.instruction import InstructionDataModule
from datamodules.record_names import KEY_NAME, RecordNames
from datamodules.records import InstructionRecord, records_from_rows
from datamodules.synthetic import generate_records

ROWS = [
    {"text": "one two", "id": "anna@example.org", "subject": "Anna"},
    {"text": "one  two", "id": "bob@example.org", "subject": "Bob"},
    {"text": "three", "subject": "Anna"},
    {"text": "four"},
]


def read() -> list[InstructionRecord]:
    return records_from_rows([(f"f:{n}", row) for n, row in enumerate(ROWS, start=1)], "f")


def test_records_go_by_their_content_and_subjects_by_a_hash() -> None:
    names = RecordNames()
    found = names.renamed(read())
    assert [one.id for one in found] == [one.content for one in found]
    assert found[0].id == found[1].id == hashlib.sha256(b"\x1f\x1fone two").hexdigest()[:16]
    anna, bob = (hashlib.sha256(name.encode()).hexdigest()[:16] for name in ("Anna", "Bob"))
    assert [one.subject for one in found] == [anna, bob, anna, None]
    assert not any(name in repr(found) for name in ("example.org", "Anna", "Bob"))
    table = names.table.to_pydict()
    assert table["record"] == [one.id for one in found]
    assert table["id"] == ["anna@example.org", "bob@example.org", None, None]
    assert table["origin"] == ["f:1", "f:2", "f:3", "f:4"]
    assert table["subject"] == [anna, bob, anna, None]
    assert table["subject_id"] == ["Anna", "Bob", "Anna", None]


def test_records_without_ids_are_called_as_they_were() -> None:
    records = generate_records(30, seed=0)
    assert RecordNames().renamed(records) == records


def test_a_pseudonym_is_a_keyed_hash() -> None:
    key = bytes(range(32))
    plain, keyed = RecordNames().renamed(read()), RecordNames(key).renamed(read())
    for bare, name in zip(plain, keyed, strict=True):
        expected = hmac.new(key, bare.id.encode(), hashlib.sha256).hexdigest()[:16]
        assert name.id == expected != bare.id
        assert name.content == bare.content
    assert keyed[0].subject == keyed[2].subject not in {None, plain[0].subject, keyed[1].subject}
    assert [one.id for one in RecordNames(key[::-1]).renamed(read())] != [one.id for one in keyed]


def test_a_key_is_made_once_whoever_comes_first(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: RecordNames.of(True, folder).key, range(8)))
    assert len(keys) == 1
    assert [path.name for path in folder.iterdir()] == [KEY_NAME]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / KEY_NAME).stat().st_mode) == 0o600
    # A file that is named is the same key; a pair of runs may share it.
    assert RecordNames.of(str(folder / KEY_NAME), None).key in keys
    assert RecordNames.of(True, None).key != RecordNames.of(True, None).key
    assert RecordNames.of(False, folder).key is None


@pytest.mark.parametrize("content", ["", "secret", "ab" * 31, "é" * 32])
def test_a_file_without_a_key_is_refused_by_its_name_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / KEY_NAME).write_text(content)
    with pytest.raises(UserError, match=r"pseudonym\.key: holds no key of 32 bytes") as caught:
        RecordNames.of(True, tmp_path)
    assert not content or content not in str(caught.value)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pseudonymise is 'ture': give true, false, or the path"):
        RecordNames.of("ture", tmp_path)
    (tmp_path / "folder.key").mkdir()
    with pytest.raises(UserError, match=r"folder\.key: no key can be kept there"):
        RecordNames.of(tmp_path / "folder.key", None)


@pytest.mark.parametrize("pseudonymise", [False, True])
def test_a_run_keeps_own_ids_in_its_private_folder(tmp_path: Path, pseudonymise: bool) -> None:
    rows = [
        {
            "instruction": " ".join(f"question{i}x{k}" for k in range(6)),
            "response": f"the answer {i}",
            "id": f"p{i}@example.org",
        }
        for i in range(200)
    ]
    source, folder = tmp_path / "rows.jsonl", tmp_path / "private"
    source.write_text("\n".join(map(json.dumps, rows)))
    # A folder of another program's making, open to all.
    folder.mkdir(mode=0o755)
    (folder / "left.txt").write_text("left")
    for path in (folder, folder / "left.txt"):
        path.chmod(0o755)
    kept = []
    for _ in range(2):  # a run, and its resume
        data = InstructionDataModule(
            str(source),
            vocabulary=280,
            template="alpaca",
            manifest_folder=str(folder),
            pseudonymise=pseudonymise,
        )
        data.setup("fit")
        kept.append([record.id for record in data.split("private")])
    assert kept[0] == kept[1]
    table = pd.read_parquet(folder / "records.parquet").set_index("record")
    manifest = pd.read_parquet(folder / "manifest.parquet").set_index("id")
    assert set(table["id"]) == {row["id"] for row in rows}
    assert set(kept[0]) == set(manifest.index[manifest["split"] == "private"]) <= set(table.index)
    assert (manifest.index == manifest["content"]).any() != pseudonymise
    lines = table["origin"].str.rpartition(":")[2].astype(int)
    assert (table["id"] == [f"p{line - 1}@example.org" for line in lines]).all()
    assert (folder / KEY_NAME).is_file() == pseudonymise
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes <= {0o600, 0o700}  # what could be executed still can, by its owner
