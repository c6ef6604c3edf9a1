"""A pass on disk: the records' order whatever the batches, selection, and what is kept for good."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from audits.scoring import statistics_file as module
from audits.scoring import statistics_spool as spool_module
from audits.scoring.statistics_file import StatisticsFile, open_statistics, save_statistics
from audits.scoring.statistics_spool import StatisticsSpool
from audits.scoring.token_statistics import TokenStatistics
from common.errors import UserError
from tests.audits.membership.conftest import empty_scores, random_statistics
from tests.audits.scoring.test_token_statistics import KEY, VALUES, assert_same


@pytest.fixture(params=[1, 3, 2048])
def shard_records(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    for one in (module, spool_module):
        monkeypatch.setattr(one, "SHARD_RECORDS", request.param)
    return request.param


def spooled(table: TokenStatistics, batches: list[list[int]], **options: Path) -> StatisticsFile:
    """A table that arrives batch by batch."""
    spool = StatisticsSpool(table.record_ids, **options)
    for batch in batches:
        spool.append(batch, table.take(torch.tensor(batch)))
    return spool.finish()


def whole(dtype: torch.dtype = torch.float32) -> TokenStatistics:
    """Nine records, one of them without a token, with token ids."""
    nothing = TokenStatistics.from_batch(["x"], torch.tensor([0]), empty_scores())
    table = TokenStatistics.concatenate([nothing, random_statistics(seed=0)])
    ids = torch.randint(300, table.logp.shape, generator=torch.Generator().manual_seed(1))
    values = {name: getattr(table, name).to(dtype) for name in VALUES[:3]}
    return replace(table, token_ids=ids, **values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_in_any_order_come_back_in_record_order(
    shard_records: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    table = whole(dtype)
    found = spooled(table, [[7, 1], [3], [6, 5, 8], [0], [2, 4]], folder=tmp_path)
    assert found.record_ids == table.record_ids
    assert torch.equal(found.lengths, table.lengths)
    assert_same(found.read(), table)
    assert torch.equal(found.read().token_ids, table.token_ids)
    assert list(tmp_path.iterdir()) == []  # without a name from the beginning
    for n_records in (1, 4, 9):
        shards = list(found.shards(n_records))
        assert [len(shard) for shard in shards[:-1]] == [n_records] * (len(shards) - 1)
        assert_same(TokenStatistics.concatenate(shards), table)


def test_a_selection_is_read_in_its_own_order(shard_records: int) -> None:
    table = whole()
    found = spooled(table, [list(range(9))])
    names = ["record-6", "record-0", "x", "record-3"]
    assert_same(found.select(names).read(), table.select(names))
    again = found.select(names).take(torch.tensor([3, 0]))
    assert_same(again.read(), table.select(["record-3", "record-6"]))
    assert len(found.take(torch.tensor([], dtype=torch.int64)).read()) == 0
    with pytest.raises(ValueError, match="not in the table"):
        found.select(["stranger"])


def test_what_a_spool_is_given_must_be_the_records_once_each() -> None:
    table = whole()
    spool = StatisticsSpool(table.record_ids)
    spool.append([1, 2], table.take(torch.tensor([1, 2])))
    with pytest.raises(ValueError, match="scored twice"):
        spool.append([2], table.take(torch.tensor([2])))
    with pytest.raises(ValueError, match="not of the records"):
        spool.append([3], table.take(torch.tensor([4])))
    with pytest.raises(ValueError, match="same columns"):
        spool.append([3], replace(table, token_ids=None).take(torch.tensor([3])))
    with pytest.raises(ValueError, match="7 records were not scored, first 'x'"):
        spool.finish()
    with pytest.raises(ValueError, match="no record"):
        StatisticsSpool([]).finish()


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_saved_table_comes_back(shard_records: int, tmp_path: Path, on_disk: bool) -> None:
    table = replace(whole(), key=KEY, facts={"shots": 3.0})
    source: StatisticsFile | TokenStatistics = table
    if on_disk:
        batches = [list(range(9))[::-1]]
        source = replace(spooled(table, batches), key=KEY, facts={"shots": 3.0})
    path = tmp_path / "folder" / "statistics.arrow"
    save_statistics(source, path)
    found = open_statistics(path, expected=KEY)
    assert_same(found.read(), table)
    assert torch.equal(found.read().token_ids, table.token_ids)
    for one in (found, found.read(), found.select(["record-2"]).read()):
        assert (one.key, one.facts) == (KEY, {"shots": 3.0})
    assert [one.name for one in path.parent.iterdir()] == ["statistics.arrow"]


def test_a_table_without_token_ids_has_none_on_disk(tmp_path: Path) -> None:
    save_statistics(replace(random_statistics(seed=0), key=KEY), tmp_path / "plain.arrow")
    found = open_statistics(tmp_path / "plain.arrow")
    assert (found.read().token_ids, found.facts) == (None, {})


@pytest.mark.parametrize("part", ["model", "tokenizer", "records"])
def test_a_table_of_something_else_is_refused(tmp_path: Path, part: str) -> None:
    path = tmp_path / "statistics.arrow"
    save_statistics(replace(random_statistics(seed=0), key=KEY), path)
    with pytest.raises(UserError, match=f"another {part} "):
        open_statistics(path, expected=replace(KEY, **{part: "other"}))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no token statistics at"):
        open_statistics(tmp_path / "missing.arrow")
    (tmp_path / "text.arrow").write_text("no arrow")
    (tmp_path / "empty.arrow").touch()
    other = pa.table({"record": ["a"]})
    with pa.ipc.new_file(str(tmp_path / "other.arrow"), other.schema) as writer:
        writer.write_table(other)
    for name in ("text", "empty", "other"):
        with pytest.raises(UserError, match="is no table of token statistics"):
            open_statistics(tmp_path / f"{name}.arrow")


def test_a_table_without_key_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a key"):
        save_statistics(random_statistics(seed=0), tmp_path / "statistics.arrow")
