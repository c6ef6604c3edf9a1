"""A run whose files were damaged is not gone on with: one line names the file, before any step."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import fragments
from tests.kd_privacy.test_damaged_studies import cut, zeroed

Refused = Callable[[list[str]], str]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage", "advice"),
    [
        ("checkpoints/last.ckpt", cut, "cannot be read"),
        ("checkpoints/last.ckpt", zeroed, "is not what was written"),
        ("parts/*/step=*.parquet", cut, "delete it to go on"),
        ("parts/*/step=*.parquet", zeroed, "delete it to go on"),
        ("config.yaml", cut, "delete it"),
    ],
)
def test_it_is_named_at_resume(
    name: str,
    damage: Callable[[bytes], bytes],
    advice: str,
    teacher: Path,
    tmp_path: Path,
    refused: Refused,
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(teacher, run_dir)
    path = sorted(run_dir.glob(name))[0]
    path.write_bytes(damage(path.read_bytes()) + (b"\n\t: [" if path.suffix == ".yaml" else b""))
    before = {one: one.read_bytes() for one in run_dir.rglob("*.parquet")}
    line = refused([*fragments("teacher"), f"--run_dir={run_dir}", "--ckpt_path=last"])
    assert path.name in line
    assert advice in line
    assert {one: one.read_bytes() for one in run_dir.rglob("*.parquet")} == before
