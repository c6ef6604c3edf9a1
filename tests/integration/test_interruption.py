"""Every rank ends with the signal, whichever is told; one process: `test_resume.py`."""

from pathlib import Path

import pytest

from tests.integration.conftest import fragments, run_process
from tests.integration.test_resume import GOES_ON, killer


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_ends_whichever_is_told(rank: int, tmp_path: Path) -> None:
    # Two epochs of six steps: it is told in the second.
    told = killer(9, "SIGTERM", rank)
    command = [*fragments("teacher"), f"--run_dir={tmp_path / 'run'}", *told]
    # All ranks hold the pipe that is read to its end: one that waits on is a timeout.
    two = ["--trainer.devices=2", "-c", "configs/trainers/ddp.yaml"]
    ended = run_process([*command, *two], timeout_s=240)
    assert ended.returncode != 0
    assert f"terminated: {GOES_ON}" in ended.stderr
