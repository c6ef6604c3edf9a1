"""Processes of their own that need not import everything again.

Each is forked from a server that has imported all there is and computed nothing: unlike a fork
of the test's own process it inherits no lock that a thread holds and no random state, and unlike
a fresh interpreter it starts within milliseconds, not after eight seconds of imports.
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from time import monotonic

import torch

ROOT = Path(__file__).resolve().parents[1]


def server() -> ForkServerContext:
    """The context whose processes are forked from a server, which the first of them starts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kd_privacy.preloaded"])
    return context


def start_ranks(work: Callable[..., None], arguments: tuple[object, ...], ranks: int = 2) -> None:
    """Runs `work(rank, *arguments)` in as many processes, and raises what any of them raises."""
    server()
    torch.multiprocessing.start_processes(work, arguments, nprocs=ranks, start_method="forkserver")


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What Lightning's launcher sets in the environment of each of its processes."""
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }


def start_command(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> BaseProcess:
    """Starts `kd-privacy` in a process of its own, whose output goes to a file."""
    log.touch()
    process = server().Process(target=_command, args=(list(arguments), environment, log))
    process.start()
    return process


def run_command(
    arguments: Sequence[str], ranks: int = 1, timeout_s: int = 600
) -> CompletedProcess[str]:
    """Runs `kd-privacy` on as many processes as there are ranks, without its launcher.

    Args:
        arguments: Its command line.
        ranks: How many processes; the command has to ask for as many devices.
        timeout_s: When all of them are killed.

    Returns:
        The exit status of the first rank that failed, and what all of them said.
    """
    port = free_port()
    with TemporaryDirectory() as folder:
        logs = [Path(folder, f"{rank}.txt") for rank in range(ranks)]
        started: list[BaseProcess] = []
        for rank, log in enumerate(logs):
            environment = rank_environment(rank, ranks, port) if ranks > 1 else {}
            started.append(start_command(arguments, environment, log))
        status = _join(started, timeout_s)
        said = "".join(log.read_text(encoding="utf-8") for log in logs)
    return CompletedProcess(list(arguments), status, stderr=said)


def _join(processes: Sequence[BaseProcess], timeout_s: float) -> int:
    """Waits for all processes, or for one that fails: without it the others wait for ever."""
    last = monotonic() + timeout_s
    running = {process.sentinel: process for process in processes}
    while running and not any(process.exitcode for process in processes):
        ended = wait(list(running), max(0.0, last - monotonic()))
        if not ended:
            break
        for sentinel in ended:
            running.pop(sentinel).join()
    status = next((process.exitcode for process in processes if process.exitcode), 0)
    for process in running.values():
        process.kill()
        process.join()
    return status or (-signal.SIGKILL if running else 0)


def _command(arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
    from kd_privacy.cli import main

    os.chdir(ROOT)
    # Workers of pytest-xdist ignore Ctrl-C, and so would what descends from them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {"OMP_NUM_THREADS": "1", **environment}
    torch.set_num_threads(1)
    with open(log, "w", encoding="utf-8") as said:
        os.dup2(said.fileno(), sys.stderr.fileno())
        os.dup2(said.fileno(), sys.stdout.fileno())
    sys.argv = ["kd-privacy"]
    main(arguments)
