"""A pass on disk: the records' order whatever the batches, selection, and what is kept for good."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audits.scoring.statistics_file import StatisticsFile, open_statistics, save_statistics
from audits.scoring.token_statistics import TokenStatistics
from common.errors import UserError
from tests.audits.membership.conftest import LENGTHS, random_statistics
from tests.audits.scoring.test_token_statistics import KEY, VALUES, assert_same


def whole(dtype: torch.dtype = torch.float32) -> TokenStatistics:
    """Nine records, the first without a token, with token ids."""
    table = random_statistics(seed=0, lengths=(0, *LENGTHS))
    ids = torch.randint(300, table.logp.shape, generator=torch.Generator().manual_seed(1))
    values = {name: getattr(table, name).to(dtype) for name in VALUES[:3]}
    return replace(table, token_ids=ids, **values)


def on_disk(table: TokenStatistics, batches: list[list[int]], **options: Path) -> StatisticsFile:
    """A table that arrives batch by batch."""
    parts = ((batch, table.take(torch.tensor(batch))) for batch in batches)
    return StatisticsFile.of_batches(table.record_ids, parts, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_in_any_order_come_back_in_record_order(dtype: torch.dtype, tmp_path: Path) -> None:
    table = whole(dtype)
    found = on_disk(table, [[7, 1], [3], [6, 5, 8], [0], [2, 4]], folder=tmp_path)
    assert found.record_ids == table.record_ids
    assert torch.equal(found.lengths, table.lengths)
    assert_same(found.read(), table)
    assert torch.equal(found.read().token_ids, table.token_ids)
    assert list(tmp_path.iterdir()) == []  # without a name from the beginning
    for n_records in (1, 4, 9):
        pairs = zip(found.shards(n_records), table.shards(n_records), strict=True)
        for shard, expected in pairs:
            assert_same(shard, expected)


def test_a_selection_is_read_in_its_own_order() -> None:
    table = whole()
    found = on_disk(table, [list(range(9))])
    order = torch.tensor([7, 1, 0, 4])
    assert_same(found.take(order).read(), table.take(order))
    again = found.take(order).take(torch.tensor([3, 0]))
    assert_same(again.read(), table.take(torch.tensor([4, 7])))
    assert len(found.take(torch.arange(0)).read()) == 0


def test_batches_must_be_the_records_once_each() -> None:
    table = whole()
    first, second = table.take(torch.tensor([1, 2])), table.take(torch.tensor([2]))
    plain = replace(second, token_ids=None)
    refused = {
        "scored twice": [([1, 2], first), ([2], second)],
        "not of the records": [([3], second)],
        "the file holds": [([1], table.take(torch.tensor([1]))), ([2], plain)],
        "7 records were not scored, first 'record-0'": [([1, 2], first)],
    }
    for message, batches in refused.items():
        with pytest.raises(ValueError, match=message):
            StatisticsFile.of_batches(table.record_ids, batches)
    with pytest.raises(ValueError, match="0 records"):
        StatisticsFile.of_batches([], [])


@pytest.mark.parametrize("passed", [True, False])
def test_a_saved_table_comes_back(tmp_path: Path, passed: bool) -> None:
    table = replace(whole(), key=KEY, facts={"shots": 3.0})
    source: StatisticsFile | TokenStatistics = table
    if passed:
        batches = [list(range(9))[::-1]]
        source = replace(on_disk(table, batches), key=KEY, facts={"shots": 3.0})
    path = tmp_path / "folder" / "own.tokens"
    save_statistics(source, path)
    found = open_statistics(path)
    assert_same(found.read(), table)
    assert torch.equal(found.read().token_ids, table.token_ids)
    for one in (found, found.read(), found.take(torch.tensor([2])).read()):
        assert (one.key, one.facts) == (KEY, {"shots": 3.0})
    assert [one.name for one in path.parent.iterdir()] == ["own.tokens"]


def test_a_table_without_token_ids_has_none_on_disk(tmp_path: Path) -> None:
    save_statistics(replace(random_statistics(seed=0), key=KEY), tmp_path / "plain.tokens")
    found = open_statistics(tmp_path / "plain.tokens")
    assert (found.read().token_ids, found.facts) == (None, {})


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.tokens"
    with pytest.raises(UserError, match="there are no token statistics at"):
        open_statistics(path)
    save_statistics(replace(random_statistics(seed=0), key=KEY), path)
    kept = path.read_bytes()
    for content in (b"", b"ARROW1\0\0\xff", b"{}\n", b"[]\n", kept[:-1], kept + b"\0"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no table of token statistics of this version"):
            open_statistics(path)


def test_a_table_without_key_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a key"):
        save_statistics(random_statistics(seed=0), tmp_path / "own.tokens")
