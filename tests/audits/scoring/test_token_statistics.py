"""The ragged table in memory: order and selection."""

from dataclasses import replace

import pytest
import torch

from audits.scoring.token_statistics import StatisticsKey, TokenStatistics
from kdmodules.scoring import TokenScores
from tests.audits.membership.conftest import random_statistics

KEY = StatisticsKey(model="m" * 64, tokenizer="t" * 64, records="r" * 64)
VALUES = ("logp", "mean", "variance", "rank")


def assert_same(found: TokenStatistics, expected: TokenStatistics) -> None:
    assert found.record_ids == expected.record_ids
    for name in ("offsets", *VALUES):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert getattr(found, name).dtype == getattr(expected, name).dtype


def of_record(table: TokenStatistics, record_id: str) -> list[list[float]]:
    place = table.record_ids.index(record_id)
    start, stop = table.offsets[place : place + 2].tolist()
    names = VALUES if table.token_ids is None else (*VALUES, "token_ids")
    return [getattr(table, name)[start:stop].tolist() for name in names]


def test_a_selection_keeps_each_records_tokens_and_what_is_known_of_all() -> None:
    plain = random_statistics(seed=0)
    ids = torch.randint(300, plain.logp.shape, generator=torch.Generator().manual_seed(1))
    for whole in (plain, replace(plain, token_ids=ids, facts={"shots": 3.0}, key=KEY)):
        chosen = whole.take(torch.tensor([4, 1, 2]))
        assert chosen.record_ids == ("record-4", "record-1", "record-2")
        assert chosen.lengths.tolist() == [33, 1, 512]
        assert (chosen.key, chosen.facts) == (whole.key, whole.facts)
        for record_id in chosen.record_ids:
            assert of_record(chosen, record_id) == of_record(whole, record_id)
    assert len(plain.take(torch.arange(0))) == 0


@pytest.mark.parametrize("n_records", [1, 3, 8, 100])
def test_shards_are_the_table_cut(n_records: int) -> None:
    whole = random_statistics(seed=0)
    shards = list(whole.shards(n_records))
    assert [len(shard) for shard in shards[:-1]] == [n_records] * (len(shards) - 1)
    assert tuple(name for shard in shards for name in shard.record_ids) == whole.record_ids
    for name in VALUES:
        assert torch.equal(torch.cat([getattr(one, name) for one in shards]), getattr(whole, name))
    assert whole.read() is whole


def test_tables_that_do_not_fit_are_refused() -> None:
    table = random_statistics(seed=0)
    with pytest.raises(ValueError, match="scored twice"):
        table.take(torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="do not fit"):
        replace(table, token_ids=torch.arange(3))
    with pytest.raises(ValueError, match="do not fit"):
        TokenStatistics.from_batch(
            ["a"], torch.tensor([2]), TokenScores(*(torch.zeros(3) for _ in VALUES))
        )
