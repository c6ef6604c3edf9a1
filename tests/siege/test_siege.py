"""Every mistake ends in one line, with its status, without private text, and leaves no trace."""

import os
import re
import resource
import sys
from multiprocessing.connection import wait
from pathlib import Path

import pytest
import torch

from tests.processes import server
from tests.siege import audits, configurations, runs, studies
from tests.siege.attempts import SECRET, Attempt

_TIMEOUT_S = 120
_LONG = (
    *(runs.values, runs.tables, runs.files, studies.files, audits.audits),
    *(configurations.named, configurations.typed, configurations.places),
)
_SHORT = (runs.words, studies.commands)
# What is read late, behind seconds of preparation, or has tests of its own elsewhere, is slow.
ATTEMPTS = [
    pytest.param(attempt, id=name, marks=[pytest.mark.slow] if kind in _LONG else [])
    for kind in (*_LONG, *_SHORT)
    for name, attempt in kind()
]


def test_every_attempt_has_a_name_of_its_own() -> None:
    assert len({attempt.id for attempt in ATTEMPTS}) == len(ATTEMPTS) >= 150


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_it_ends_in_one_line(attempt: Attempt, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for path, content in attempt.files.items():
        place = home / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
    before = _outside(home)
    status, said = run(attempt, home, tmp_path / "said.txt")
    told = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said, said[-2000:]
    assert status == attempt.status, said[-2000:]
    assert len(told) == 1, said[-2000:]
    assert said.rstrip().endswith(told[0]), said[-2000:]
    assert re.search(attempt.says, told[0]), told[0]
    assert SECRET not in said
    assert _outside(home) == before
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("home", "said.txt")] == []


def run(attempt: Attempt, home: Path, log: Path) -> tuple[int | None, str]:
    """Runs a command in a forked process; returns its status and all that it said."""
    process = server().Process(target=_command, args=(attempt, home, log))
    process.start()
    if not wait([process.sentinel], _TIMEOUT_S):
        process.kill()
    process.join()
    return process.exitcode, log.read_text(encoding="utf-8", errors="replace")


def _command(attempt: Attempt, home: Path, log: Path) -> None:
    arguments = attempt.arguments
    os.chdir(home)
    if attempt.room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (attempt.room, attempt.room))
    torch.set_num_threads(1)
    with open(log, "w", encoding="utf-8") as said:
        os.dup2(said.fileno(), sys.stderr.fileno())
        os.dup2(said.fileno(), sys.stdout.fileno())
    if arguments[:1] == ("kd-study",):
        from kd_privacy.study_cli import main as study

        sys.exit(study(arguments[1:]))
    from kd_privacy.__main__ import main

    sys.argv = ["kd-privacy"]
    sys.exit(main(list(arguments)))


def _outside(home: Path) -> dict[str, bytes]:
    """Returns all files but those that a run itself writes."""
    found = {}
    for path in sorted(home.rglob("*")):
        place = path.relative_to(home)
        if path.is_file() and (place.parts[0] != "run" or len(place.parts) == 1):
            found[str(place)] = path.read_bytes()
    return found
