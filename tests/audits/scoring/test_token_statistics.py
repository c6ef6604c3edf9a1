"""The ragged table in memory: order and selection."""

from dataclasses import replace

import pytest
import torch

from audits.scoring.token_statistics import StatisticsKey, TokenStatistics
from kdmodules.scoring import TokenScores, token_statistics
from tests.audits.membership.conftest import empty_scores, random_statistics

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
    return [getattr(table, name)[start:stop].tolist() for name in VALUES]


def test_batches_in_any_order_come_back_in_record_order() -> None:
    whole = random_statistics(seed=0)
    batches = [[6, 0], [2], [5, 4, 7], [1, 3]]
    parts = [whole.select([f"record-{i}" for i in batch]) for batch in batches]
    joined = TokenStatistics.concatenate(parts)
    assert joined.record_ids == tuple(f"record-{i}" for batch in batches for i in batch)
    assert_same(joined.select(whole.record_ids), whole)


def test_selection_keeps_each_records_tokens() -> None:
    whole = random_statistics(seed=0)
    chosen = whole.select(["record-4", "record-1", "record-2"])
    assert chosen.lengths.tolist() == [33, 1, 512]
    for record_id in chosen.record_ids:
        assert of_record(chosen, record_id) == of_record(whole, record_id)


def test_a_selection_of_nothing_is_empty() -> None:
    assert len(random_statistics(seed=0).select([])) == 0


def test_batches_of_a_model_score_a_record_alike() -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(9, 4, generator=generator), torch.randn(11, 4, generator=generator)
    targets = torch.arange(9)
    together = TokenStatistics.from_batch(
        ["a", "b"], torch.tensor([4, 5]), token_statistics(hidden, weight, targets)
    )
    alone = TokenStatistics.concatenate(
        [
            TokenStatistics.from_batch(
                ["b"], torch.tensor([5]), token_statistics(hidden[4:], weight, targets[4:])
            ),
            TokenStatistics.from_batch(
                ["a"], torch.tensor([4]), token_statistics(hidden[:4], weight, targets[:4])
            ),
        ]
    ).select(["a", "b"])
    torch.testing.assert_close(alone.logp, together.logp, rtol=0, atol=1e-6)
    assert torch.equal(alone.entropy, -alone.mean)


def test_records_without_tokens_are_kept() -> None:
    nothing = TokenStatistics.from_batch(["x", "y"], torch.tensor([0, 0]), empty_scores())
    joined = TokenStatistics.concatenate([nothing, random_statistics(seed=0)])
    assert joined.select(["record-1", "y", "record-3"]).lengths.tolist() == [1, 0, 2]


def test_token_ids_and_facts_stay_with_their_records() -> None:
    plain = random_statistics(seed=0)
    ids = torch.randint(300, plain.logp.shape, generator=torch.Generator().manual_seed(1))
    whole = replace(plain, token_ids=ids, facts={"shots": 3.0})
    chosen = whole.select(["record-4", "record-1"])
    start, stop = whole.offsets[4:6].tolist()
    assert chosen.token_ids is not None
    assert chosen.token_ids.tolist() == [*ids[start:stop].tolist(), int(ids[whole.offsets[1]])]
    rest = whole.select([name for name in whole.record_ids if name not in chosen.record_ids])
    joined = TokenStatistics.concatenate([chosen, rest]).select(whole.record_ids)
    assert_same(joined, plain)
    assert joined.token_ids is not None
    assert torch.equal(joined.token_ids, ids)
    assert joined.facts == {"shots": 3.0}


@pytest.mark.parametrize("n_records", [1, 3, 8, 100])
def test_shards_are_the_table_cut(n_records: int) -> None:
    whole = random_statistics(seed=0)
    shards = list(whole.shards(n_records))
    assert [len(shard) for shard in shards[:-1]] == [n_records] * (len(shards) - 1)
    assert_same(TokenStatistics.concatenate(shards), whole)
    assert whole.read() is whole


@pytest.mark.parametrize("other", [{"token_ids": None}, {"facts": {"shots": 2.0}}])
def test_tables_of_other_columns_or_facts_are_not_joined(other: dict[str, None]) -> None:
    table = random_statistics(seed=0)
    table = replace(table, token_ids=torch.arange(table.logp.numel()))
    first, second = table.select(["record-0"]), table.select(["record-1"])
    with pytest.raises(ValueError, match="same key, facts and columns"):
        TokenStatistics.concatenate([first, replace(second, **other)])
    with pytest.raises(ValueError, match="do not fit"):
        replace(table, token_ids=torch.arange(3))


def test_tables_that_do_not_fit_are_refused() -> None:
    table = random_statistics(seed=0)
    with pytest.raises(ValueError, match="scored twice"):
        TokenStatistics.concatenate([table, table])
    with pytest.raises(ValueError, match="same key"):
        TokenStatistics.concatenate([table, replace(random_statistics(seed=1), key=KEY)])
    with pytest.raises(ValueError, match="same key"):
        TokenStatistics.concatenate([])
    with pytest.raises(ValueError, match="not in the table"):
        table.select(["record-0", "stranger"])
    with pytest.raises(ValueError, match="do not fit"):
        TokenStatistics.from_batch(
            ["a"], torch.tensor([2]), TokenScores(*(torch.zeros(3) for _ in VALUES))
        )
