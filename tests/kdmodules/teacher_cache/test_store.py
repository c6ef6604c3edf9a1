"""Bytes on disk against NumPy's own, and stores that are not what their index says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from kdmodules.teacher_cache.store import Store
from kdmodules.teacher_cache.writer import PartWriter, begin, finish, write_array

LENGTHS = {"a": 3, "b": 0, "c": 5, "d": 2}


def rows(seed: int, count: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "wide": torch.randn(count, 4, generator=draw),
        "half": torch.randn(count, 3, generator=draw).bfloat16(),
        "ids": torch.randint(0, 9, (count, 2), generator=draw, dtype=torch.int32),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of two parts: a, b and d, then c."""
    unfinished, path = tmp_path / "store.unfinished", tmp_path / "store"
    begin(unfinished)
    parts = []
    for part, names in enumerate(("abd", "c")):
        with PartWriter(unfinished, part) as writer:
            for name in names:
                writer.add(name, rows(ord(name), LENGTHS[name]))
        parts.append((writer.columns, writer.spans))
    write_array(unfinished, "head", torch.arange(6.0).reshape(2, 3))
    finish(unfinished, path, [*parts, ({}, {})], {"sources": ["x"]})
    return path


def test_what_was_written_is_read(path: Path) -> None:
    store = Store(path)
    assert store.about == {"sources": ["x"]}
    assert (len(store), store.n_rows) == (4, 10)
    assert "b" in store
    assert "e" not in store
    for name in ("wide", "half", "ids"):
        found = store.rows(name, ["c", "b", "a", "d", "c"])
        expected = [rows(ord(record), LENGTHS[record])[name] for record in "cbadc"]
        assert torch.equal(found, torch.cat(expected))
    assert store.rows("wide", []).shape == (0, 4)
    wide = np.fromfile(path / "wide.0.bin", dtype="<f4").reshape(5, 4)
    assert (wide[:3] == rows(ord("a"), 3)["wide"].numpy()).all()
    assert torch.equal(store.array("head"), torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
    assert store.disk_bytes == sum(file.stat().st_size for file in path.iterdir())
    with pytest.raises(KeyError):
        store.rows("wide", ["e"])


def test_a_store_that_was_damaged_is_refused(path: Path) -> None:
    with (path / "half.1.bin").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=r"half\.1\.bin has 31 bytes, not 30.*delete that folder"):
        Store(path)
    (path / "half.1.bin").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        Store(path)
    (path / "index.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        Store(path)


def test_a_part_on_another_node_is_missed(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    parts = []
    for part, folder in enumerate((here, there)):
        begin(folder)
        with PartWriter(folder, part) as writer:
            writer.add(str(part), rows(part, 2))
        parts.append((writer.columns, writer.spans))
    with pytest.raises(UserError, match="rank 1 wrote its part .* elsewhere"):
        finish(here, tmp_path / "store", parts, {})
    assert not (tmp_path / "store").exists()


def test_rows_must_fit_together(tmp_path: Path) -> None:
    with PartWriter(tmp_path, 0) as writer:
        writer.add("a", {"x": torch.zeros(2, 3)})
        with pytest.raises(ValueError, match="has rows of"):
            writer.add("b", {"x": torch.zeros(2, 4)})
        with pytest.raises(ValueError, match="have"):
            writer.add("c", {"x": torch.zeros(2, 3), "y": torch.zeros(1, 3)})
