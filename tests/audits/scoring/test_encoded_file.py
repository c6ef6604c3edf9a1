"""Token ids on disk come back as they were, whatever the shards."""

import pytest
from transformers import PreTrainedTokenizerFast

from audits.scoring import encoded_file as module
from audits.scoring.encoded_file import EncodedFile
from datamodules.batches import RecordEncoder
from tests.audits.membership.texts.conftest import TEMPLATE, awkward_records


@pytest.mark.parametrize("shard_records", [1, 4, 2048])
def test_records_come_back_token_by_token(
    tokenizer: PreTrainedTokenizerFast, shard_records: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_RECORDS", shard_records)
    encoder = RecordEncoder(tokenizer, TEMPLATE, max_prompt_tokens=24, max_tokens=32)
    records = awkward_records("m")
    asked: list[int] = []

    def encode(part):
        asked.append(len(part))
        return encoder.encode_all(part)

    expected = encoder.encode_all(records)
    assert len({(one.prompt_cut, one.response_cut) for one in expected}) > 1
    found = EncodedFile(records, encode)
    assert len(found) == len(records)
    assert list(found) == expected
    assert found[-1] == expected[-1]
    assert found[1:3] == expected[1:3]
    assert [len(one) for one in found] == [len(one) for one in expected]
    assert max(asked) <= shard_records
    assert sum(asked) == len(records)
    with pytest.raises(IndexError):
        found[len(records)]


def test_no_record_is_an_empty_file() -> None:
    assert list(EncodedFile([], lambda part: [])) == []
