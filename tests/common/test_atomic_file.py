"""Modes of files: what is private stays closed, what is passed on is open alike."""

import stat
from pathlib import Path

from common.atomic_file import beside, make_private, open_alike, replacing


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_is_closed_while_it_is_written_and_after(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    path.write_text("old")
    beside(path).write_text("of a killed process")
    for one in (path, beside(path)):
        one.chmod(0o644)
    with replacing(path, private=True) as file:
        assert mode(beside(path)) == 0o600
        file.write(b"new")
    assert (mode(path), path.read_bytes()) == (0o600, b"new")


def test_a_folder_that_was_open_is_closed_with_all_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    inner = folder / "statistics" / "table.parquet"
    inner.parent.mkdir(parents=True)
    inner.write_text("")
    outside = tmp_path / "outside"
    outside.write_text("")
    (folder / "link").symlink_to(outside)
    for path in (folder, inner.parent):
        path.chmod(0o755)
    for path in (inner, outside):
        path.chmod(0o644)
    make_private(folder)
    assert [mode(path) for path in (folder, inner.parent, inner)] == [0o700, 0o700, 0o600]
    assert mode(outside) == 0o644


def test_files_that_are_passed_on_have_one_mode(tmp_path: Path) -> None:
    weights, card = tmp_path / "adapter" / "weights", tmp_path / "README.md"
    weights.parent.mkdir()
    for path in (weights, card):
        path.write_text("")
    weights.chmod(0o600)
    card.chmod(0o640)
    open_alike(tmp_path, card)
    assert mode(weights) == mode(card) == 0o640
    assert mode(weights.parent) & 0o100
