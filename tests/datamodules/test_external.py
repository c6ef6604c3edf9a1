"""Records for somebody else's model: two sides that must not share a record."""

import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
from tokenizers import normalizers
from transformers import AutoTokenizer

from common.errors import UserError
from datamodules.batches import InstructionBatch
from datamodules.external import ExternalDataModule
from datamodules.tokenizer import train_tokenizer


def write(path: Path, *numbers: int) -> str:
    rows = [{"instruction": f"q{i} a{i} b{i} c{i}", "output": f"answer {i}"} for i in numbers]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["instruction response below answer"] * 3, 280).save_pretrained(folder)
    return str(folder)


def module(tokenizer: str, members: str, nonmembers: str, **options: object) -> ExternalDataModule:
    options = {"default_task": "open_qa", "template": "alpaca", **options}
    return ExternalDataModule(members, nonmembers, tokenizer, **options)


def test_both_sides_each_content_once(tmp_path: Path, tokenizer: str):
    members = write(tmp_path / "a.jsonl", 1, 2, 3, 2)
    nonmembers = write(tmp_path / "b.jsonl", 11, 12)
    data = module(tokenizer, members, nonmembers)
    data.setup("validate")
    assert data.member_population == "external"
    assert [r.origin.split(":")[-1] for r in data.population("external")] == ["1", "2", "3"]
    assert len(data.population("held_out")) == 2
    assert len(set(data.clusters(data.population("external")))) == 3
    assert data.encoder.encode(data.population("external")[0]).response_ids[-1] == 0
    with pytest.raises(UserError, match="no population 'private', only external, held_out"):
        data.population("private")


def test_the_same_content_on_both_sides(tmp_path: Path, tokenizer: str):
    members = write(tmp_path / "a.jsonl", *range(10))
    nonmembers = write(tmp_path / "b.jsonl", *range(3, 20))
    with pytest.raises(UserError) as caught:
        module(tokenizer, members, nonmembers).setup("validate")
    message = str(caught.value)
    assert message.startswith("7 record(s) stand on both sides of the audit: ")
    assert f"{members}:4 and {nonmembers}:1" in message
    assert message.count(" and ") == 5
    assert "\n" not in message


def test_empty_responses_are_kept_and_one_record_is_too_few(tmp_path: Path, tokenizer: str):
    members = write(tmp_path / "a.jsonl", 1, 2)
    path = tmp_path / "b.jsonl"
    rows = [{"instruction": f"z{i}", "output": "" if i else "o"} for i in range(3)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(UserError, match="1 distinct record.* at least 2 on each side"):
        module(tokenizer, members, str(path)).setup("validate")
    rows[1]["output"] = "p"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    data = module(tokenizer, members, str(path))
    data.setup("validate")
    assert [bool(r.response) for r in data.population("held_out")] == [True, True, False]


def test_validate_is_served_the_scorable_nonmembers(tmp_path: Path, tokenizer: str):
    class Seen(pl.LightningModule):
        ids: list[str] = []

        def validation_step(self, batch: InstructionBatch, batch_idx: int) -> None:
            assert batch.response_mask.any(1).all()
            self.ids = [*self.ids, *batch.record_ids]

    nonmembers = write(tmp_path / "b.jsonl", *range(20, 29))
    data = module(tokenizer, write(tmp_path / "a.jsonl", 1, 2), nonmembers, eval_batch_size=4)
    seen = Seen()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        barebones=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.validate(seen, data, verbose=False)
    assert sorted(seen.ids) == sorted(r.id for r in data.population("held_out"))


def test_a_tokenizer_that_changes_text_is_told_of_once(
    tmp_path: Path, tokenizer: str, capsys: pytest.CaptureFixture[str]
):
    sides = write(tmp_path / "a.jsonl", 1, 2), write(tmp_path / "b.jsonl", 11, 12)
    module(tokenizer, *sides).setup("validate")
    assert capsys.readouterr().err == ""
    folder = tmp_path / "lower"
    lower = AutoTokenizer.from_pretrained(tokenizer)
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    lower.save_pretrained(folder)
    data = module(str(folder), *sides)
    data.setup("validate")
    data.setup("validate")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: the tokenizer '{folder}' does not give a text back: ")
    assert "café" in line
    assert "answer" not in line


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "z"}, r"kind text \(.*b.jsonl:1\), those of .* instruction \(.*a.jsonl:1"),
        ({"instruction": "z", "output": "o", "category": "own"}, "a.jsonl: no record has a categ"),
    ],
)
def test_sides_differ_in_nothing_but_what_they_say(
    tmp_path: Path, tokenizer: str, row: dict[str, str], expected: str
):
    members, nonmembers = write(tmp_path / "a.jsonl", 1, 2), tmp_path / "b.jsonl"
    rows = [{name: f"{text}{n}" for name, text in row.items()} for n in range(2)]
    nonmembers.write_text("\n".join(map(json.dumps, rows)))
    data = ExternalDataModule(members, str(nonmembers), tokenizer)
    with pytest.raises(UserError, match=expected):
        data.setup("validate")
