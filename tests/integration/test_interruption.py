"""Every rank ends, whichever is told to, killed or out of disk; one process: `test_resume.py`."""

from pathlib import Path

import pytest

from tests.integration.conftest import fragments, run_process
from tests.integration.test_resume import GOES_ON, killer
from tests.processes import run_command

DIES = 9
"""Two epochs of six steps: it befalls in the second."""
FULL = "--trainer.callbacks.full=true"


def test_a_disk_that_is_full_ends_a_run_in_one_line(tmp_path: Path) -> None:
    run_dir = f"--run_dir={tmp_path / 'run'}"
    ended = run_command([*fragments("teacher"), run_dir, *killer(DIES, "SIGKILL"), FULL])
    assert ended.returncode == 2
    [line] = [one for one in ended.stderr.splitlines() if one.startswith("error: ")]
    assert line == f"error: No space left on device; {GOES_ON}"
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("sends", "more", "said"),
    [
        ("SIGTERM", [], f"terminated: {GOES_ON}"),
        ("SIGKILL", [], ""),
        ("SIGKILL", [FULL], "error: No space left on device"),
    ],
    ids=["told", "killed", "out of disk"],
)
def test_every_rank_ends_whichever_it_befalls(
    sends: str, more: list[str], said: str, rank: int, tmp_path: Path
) -> None:
    befalls = [*killer(DIES, sends, rank), *more]
    command = [*fragments("teacher"), f"--run_dir={tmp_path / 'run'}", *befalls]
    # All ranks hold the pipe that is read to its end: one that waits on is a timeout.
    two = ["--trainer.devices=2", "-c", "configs/trainers/ddp.yaml"]
    ended = run_process([*command, *two], timeout_s=240)
    assert ended.returncode != 0
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
