"""What models wrote of members is kept as generation gives it, behind a folder of mode 0700."""

import stat
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from audits.memorization.continuations import (
    CONTINUATIONS_NAME,
    Continuation,
    continuations,
    read_continuations,
    write_continuations,
)
from audits.memorization.greedy_continuation import Request
from audits.memorization.greedy_decoding import continue_greedily
from common.errors import UserError
from datamodules.encoding import EncodedRecord
from tests.audits.memorization.slow_reference import greedy_texts, half_learnt_records
from tests.audits.memorization.test_greedy_decoding import tiny_access


def requests(record: EncodedRecord) -> list[Request]:
    """Two lengths from the prompt, one from further on; nothing of records of 4 tokens or fewer."""
    length = len(record.response_ids)
    if length <= 4:
        return []
    return [Request(0, 4), Request(0, min(12, length)), Request(3, min(32, length - 3))]


def test_what_is_kept_is_what_is_generated(tokenizer: PreTrainedTokenizerFast) -> None:
    access = tiny_access("gpt2", tokenizer)
    records = half_learnt_records(access, 30, 20, seed=8)
    with torch.no_grad():
        found = continuations("private", continue_greedily(access, records, requests), requests)
    asked = [record for record in records if len(record.response_ids) > 4]
    assert 10 < len(asked) < 30
    assert [one.record for one in found] == [record.record_id for record in asked]
    lengths = [min(12, len(record.response_ids)) for record in asked]
    expected = greedy_texts(access, [record.prompt_ids for record in asked], lengths)
    for one, record, text, length in zip(found, asked, expected, lengths, strict=True):
        assert one.prompt_ids == record.prompt_ids
        assert one.true_ids == record.response_ids[:length]
        assert list(one.written_ids) == text
        padded = [*text, *[None] * length]
        assert one.matches == [own == true for own, true in zip(padded, one.true_ids, strict=False)]
    assert any(len(one.written_ids) < len(one.true_ids) for one in found)


def test_the_file_is_private_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "private"
    kept = [
        Continuation("a", "private", (1, 2), (3, 4, 5), (3, 9)),
        Continuation("a", "public", (1, 2), (3,), ()),
    ]
    write_continuations(kept, folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == [CONTINUATIONS_NAME]
    assert read_continuations(folder, "private") == {"a": kept[0]}
    assert read_continuations(folder, "public")["a"].matches == [False]
    write_continuations(kept[1:], folder)
    assert read_continuations(folder, "private") == {}
    assert read_continuations(tmp_path, "private") == {}
    (folder / CONTINUATIONS_NAME).write_text("no table")
    with pytest.raises(UserError, match=r"continuations\.parquet cannot be read whole"):
        read_continuations(folder, "private")
