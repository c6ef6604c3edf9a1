"""A process that watches its parent does not outlive it, even where it waits for ever."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.processes import ROOT

WAITS = """
import importlib.util, signal, sys
found = importlib.util.spec_from_file_location("orphans", "studies/run/orphans.py")
orphans = importlib.util.module_from_spec(found)
found.loader.exec_module(orphans)
orphans._POLL_SECONDS, orphans._GRACE_SECONDS = 0.05, 0.1
if "watch" in sys.argv:
    orphans.end_with_parent()
print("ready", flush=True)
signal.pause()
"""
# A parent that starts such a process, says which, and waits to be killed.
PARENT = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("watches", [True, False])
def test_a_killed_parent_takes_the_process_with_it(watches: bool) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", PARENT, WAITS, "watch" if watches else "alone"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    with started:
        assert started.stdout is not None
        child = psutil.Process(int(started.stdout.readline()))
        time.sleep(0.5)
        assert child.status() != psutil.STATUS_ZOMBIE  # it waits while its parent lives
        os.kill(started.pid, signal.SIGKILL)
    gone, left = psutil.wait_procs([child], timeout=20 if watches else 1)
    for process in left:
        process.kill()
    assert bool(gone) == watches
