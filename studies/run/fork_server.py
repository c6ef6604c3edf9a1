"""Starts cells from a process that has imported everything already: a fork instead of seconds.

The server is a fresh interpreter that imports one module, computes nothing, and then forks itself
for every cell. A forked cell has its own session, its log as output, its lock, and the random and
signal state of a fresh interpreter; its exit is that of `sys.exit(module.main())`. The server ends
when the connection to its runner closes, however the runner ends; its cells go on, and hold their
locks, as cells do whose runner was killed.
"""

import contextlib
import gc
import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle

import numpy as np

from common.lock import write_holder

_STOP_SECONDS = 5.0


class ForkServer:
    """A warmed process, and the way to it.

    Args:
        module: Name of the module whose `main()` a cell runs; imported once.
        environment: Of the server and its cells; thread pools read theirs once, at import.

    Raises:
        RuntimeError: The module cannot be imported; the message ends with what Python said.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self.connection, theirs = Pipe()
        with tempfile.TemporaryFile() as said, theirs:
            # -P: the working folder is no place to import from, as for an installed command.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, module, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
            theirs.close()
            try:
                self.connection.recv()
            except EOFError:
                self.close()
                said.seek(0)
                text = said.read().decode(errors="replace")
                raise RuntimeError(f"{module} cannot be imported:\n{text}") from None

    @property
    def is_alive(self) -> bool:
        """Whether it can fork."""
        return self.process.poll() is None

    def start(self, arguments: Sequence[str], log: int, lock: int) -> "ForkedProcess":
        """Forks a process that runs the module's `main()`.

        Args:
            arguments: The process's `sys.argv`.
            log: File descriptor for its output and errors.
            lock: File descriptor of the cell's lock, which it inherits.
        """
        self.connection.send(list(arguments))
        for descriptor in (log, lock):
            send_handle(self.connection, descriptor, self.process.pid)
        return ForkedProcess(self, self.connection.recv())

    def status(self, pid: int) -> int | None:
        """Returns a forked process's exit status, negative for a signal; None while it runs."""
        self.connection.send(pid)
        status = self.connection.recv()
        return None if status is None else os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Ends the server; its cells, if any still run, go on."""
        self.connection.close()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ForkedProcess:
    """A process that a server has forked, with the `poll` of `subprocess.Popen`.

    Attributes:
        pid: Of the process, and of its process group.
    """

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Returns the exit status; None while it runs.

        Where its server was killed, its status can be known no more: it is killed too.
        """
        if self.returncode is None:
            try:
                self.returncode = self.server.status(self.pid)
            except (EOFError, OSError):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self.returncode = -signal.SIGKILL
        return self.returncode


def _serve(connection: Connection) -> list[str]:
    """Answers the runner until it is gone; returns, with the arguments, in every forked cell."""
    try:
        connection.send("ready")
        while True:
            request = connection.recv()
            if isinstance(request, int):
                pid, status = os.waitpid(request, os.WNOHANG)
                connection.send(status if pid else None)
                continue
            log, lock = recv_handle(connection), recv_handle(connection)
            begun, tell = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(begun)
                _become_cell(log, lock)
                connection.close()
                os.close(tell)
                return request
            for descriptor in (log, lock, tell):
                os.close(descriptor)
            # Only a cell of its own session that holds its lock can be ended and found.
            os.read(begun, 1)
            os.close(begun)
            connection.send(pid)
    except (EOFError, ConnectionError):
        # The runner is gone. What the imports registered for an interpreter's end is for cells.
        os._exit(0)


def _become_cell(log: int, lock: int) -> None:
    os.setsid()
    write_holder(lock)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    # A fresh interpreter's generators start at random. Python's is seeded anew by every fork.
    np.random.seed()  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


def _main() -> None:
    name, descriptor = sys.argv[1:]
    module = importlib.import_module(name)
    # A collection in a cell need not touch, and so copy, the pages of what was imported.
    gc.collect()
    gc.freeze()
    sys.stdout.flush()
    sys.argv = _serve(Connection(int(descriptor)))
    sys.exit(module.main())


if __name__ == "__main__":
    _main()
