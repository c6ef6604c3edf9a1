"""What comes back from a store, and stores that are not what their index says."""

from pathlib import Path

import pytest
import torch

from common.errors import UserError
from kdmodules.teacher_cache.store import Span, Store, begin, damage_of, finish, write_tensors

LENGTHS = {"a": 3, "b": 0, "c": 5, "d": 2}


def rows(seed: int, count: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "wide": torch.randn(count, 4, generator=draw),
        "half": torch.randn(count, 3, generator=draw).bfloat16(),
        "ids": torch.randint(0, 9, (count, 2), generator=draw, dtype=torch.int32),
    }


def write(folder: Path, file: str, names: str) -> dict[str, Span]:
    """Writes the rows of some texts to one file."""
    parts = [rows(ord(name), LENGTHS[name]) for name in names]
    write_tensors(folder, file, {key: torch.cat([one[key] for one in parts]) for key in parts[0]})
    spans, start = {}, 0
    for name in names:
        spans[name] = (file, start, LENGTHS[name])
        start += LENGTHS[name]
    return spans


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of two files: a, b and d, then c."""
    unfinished, path = tmp_path / "store.unfinished", tmp_path / "store"
    begin(unfinished)
    spans = write(unfinished, "texts-0-0", "abd") | write(unfinished, "texts-1-0", "c")
    write_tensors(unfinished, "head", {"head": torch.arange(6.0).reshape(2, 3)})
    finish(unfinished, path, spans, {"sources": ["x"]})
    return path


def test_what_was_written_is_read(path: Path) -> None:
    store = Store(path)
    assert store.about == {"sources": ["x"]}
    assert (len(store), store.n_rows) == (4, 10)
    assert "b" in store
    assert "e" not in store
    assert store.columns == ["half", "ids", "wide"]
    for name in store.columns:
        found = store.rows(name, ["c", "b", "a", "d", "c"])
        expected = [rows(ord(text), LENGTHS[text])[name] for text in "cbadc"]
        assert torch.equal(found, torch.cat(expected))
        assert found.dtype == expected[0].dtype
    assert store.rows("wide", []).shape == (0, 4)
    assert torch.equal(store.array("head"), torch.tensor([[0.0, 1, 2], [3, 4, 5]]))
    assert store.disk_bytes == sum(file.stat().st_size for file in path.iterdir())
    assert path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(KeyError):
        store.rows("wide", ["e"])


def test_a_store_that_was_damaged_is_refused(path: Path) -> None:
    file = path / "texts-1-0.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"cannot be read .*delete that folder"):
        Store(path)
    file.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        Store(path)
    (path / "index.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        Store(path)


def test_what_is_altered_at_equal_size_is_found(path: Path) -> None:
    assert damage_of(path) is None
    files = sorted(path.iterdir())
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[:-4] + bytes(255 - byte for byte in whole[-4:]))
        damage = damage_of(path)
        assert damage is not None
        assert file.name in damage or "cannot be read" in damage
        file.unlink()
        assert "cannot be read" in str(damage_of(path))
        file.write_bytes(whole)
    assert damage_of(path) is None


def test_a_file_on_another_node_is_missed(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    spans: dict[str, Span] = {}
    for rank, folder in enumerate((here, there)):
        begin(folder)
        spans |= write(folder, f"texts-{rank}-0", "ac"[rank])
    with pytest.raises(UserError, match="texts-1-0 of .* was written elsewhere"):
        finish(here, tmp_path / "store", spans, {})
    assert not (tmp_path / "store").exists()
