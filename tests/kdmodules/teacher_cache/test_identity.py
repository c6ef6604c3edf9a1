"""Hashes: what they see, and what they leave aside."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.utils import cached_file

from common.errors import UserError
from datamodules.batches import FILLER_ID, collate
from kdmodules.models import adapter_files
from kdmodules.models.adapters import Adapter, add_adapter, save_adapter
from kdmodules.models.network import load_model
from kdmodules.teacher_cache import identity
from kdmodules.teacher_cache.identity import distinct_texts, row_hashes, source_hash
from tests.kdmodules.responses.conftest import random_records
from tests.kdmodules.teacher_cache.conftest import TeacherOf


def test_rows_are_told_apart_by_tokens_and_scores_alone() -> None:
    records = random_records(9)
    filler = replace(records[0], record_id=FILLER_ID, response_ids=())
    padded = row_hashes(collate(records, pad_id=1))
    assert len(set(padded)) == 9
    assert row_hashes(collate([*records, filler], pad_id=0, padding_side="left")) == [*padded, None]
    assert [row_hashes(collate([record], pad_id=1))[0] for record in records] == padded
    batch = collate(records[:2], pad_id=1)
    batch.response_mask[0, len(records[0]) - 1] = False
    assert row_hashes(batch)[0] != padded[0]
    assert row_hashes(batch)[1] == padded[1]


def test_a_text_that_stands_twice_is_one_text() -> None:
    records = random_records(70)
    twin = replace(records[3], record_id="twin", task="other")
    found = list(distinct_texts([*records, twin, replace(twin, response_ids=())], pad_id=1))
    assert [record for _, record in found] == records


def test_a_source_is_its_weights_and_configuration(teacher_of: TeacherOf, tmp_path: Path) -> None:
    source = teacher_of("gpt2")
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    (copy / "README.md").write_text("a model card")
    assert source_hash(str(copy)) == source_hash(source)
    assert source_hash(source) != source_hash(teacher_of("gpt2", 6))
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace('"n_head": 2', '"n_head": 4'))
    assert source_hash(str(copy)) != source_hash(source)


def test_an_adapter_counts_with_its_base(teacher_of: TeacherOf, tmp_path: Path) -> None:
    found = []
    for base in (teacher_of("gpt2"), teacher_of("gpt2", 6)):
        model = load_model(base)
        add_adapter(model, Adapter(r=2), seed=1)
        folder = tmp_path / str(len(found))
        save_adapter(model, model.state_dict(), folder, base)
        found.append(source_hash(str(folder)))
    assert found[0] != found[1]


def test_checkpoints_and_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"a": 1}, path)
    first = source_hash(str(path))
    torch.save({"a": 2}, path)
    assert source_hash(str(path)) != first
    with pytest.raises(UserError, match="does not exist"):
        source_hash(str(tmp_path / "other.ckpt"))
    commit = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    hub = tmp_path / "hub" / "models--gpt2"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text(commit)
    snapshot = hub / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")

    def look_up(*names: str, **options: object) -> str | None:
        own = {"cache_dir": tmp_path / "hub", "local_files_only": True}
        return cached_file(*names, **{**options, **own})

    for module in (identity, adapter_files):
        monkeypatch.setattr(module, "cached_file", look_up)
    assert source_hash("gpt2") == f"gpt2@{commit}"
    (hub / "refs" / "v1").write_text(commit)
    (snapshot / "half").mkdir()
    (snapshot / "half" / "config.json").write_text("{}")
    assert source_hash("gpt2@v1") == f"gpt2@{commit}"
    assert source_hash("gpt2@v1:half") == f"gpt2@{commit}:half"
    with pytest.raises(UserError, match="cannot be loaded"):
        source_hash("opt")
