"""Where the time of a training step goes."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MOST_MARKS = 4096


class PhaseClock:
    """Splits time into named phases; every moment belongs to one.

    On a GPU work is queued, so that the host's time says little: phases are then marked by events
    of the GPU's own stream, and nothing waits for it before :meth:`seconds` is read.

    A clock that was never started marks nothing and costs nothing.
    """

    def __init__(self) -> None:
        self._device: torch.device | None = None
        self._phase = ""
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []
        self._seconds: dict[str, float] = defaultdict(float)

    def start(self, device: torch.device, phase: str) -> None:
        """Starts anew, in a phase, on the device that the work is done on."""
        self._device = device
        self._marks.clear()
        self._seconds.clear()
        self.switch(phase)

    def switch(self, phase: str) -> str:
        """Ends the current phase, begins another and returns the name of the one that ended."""
        ended, self._phase = self._phase, phase
        if self._device is not None:
            self._marks.append((phase, self._now()))
            if len(self._marks) >= _MOST_MARKS:
                self._settle()
        return ended

    @contextmanager
    def part(self, name: str, of: str) -> Iterator[None]:
        """Counts what is inside as a phase of its own, where it is inside the phase ``of``."""
        if self._device is None or self._phase != of:
            yield
            return
        self.switch(name)
        try:
            yield
        finally:
            self.switch(of)

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of every phase since the start; the current one goes on."""
        self.switch(self._phase)
        self._settle()
        return dict(self._seconds)

    def _now(self) -> "float | torch.cuda.Event":
        if self._device is None or self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _settle(self) -> None:
        """Turns all marks but the last into seconds."""
        for (phase, begin), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            self._seconds[phase] += _between(begin, end)
        self._marks = self._marks[-1:]


def _between(begin: "float | torch.cuda.Event", end: "float | torch.cuda.Event") -> float:
    if isinstance(begin, float) or isinstance(end, float):
        assert isinstance(begin, float)
        assert isinstance(end, float)
        return end - begin
    end.synchronize()
    return begin.elapsed_time(end) / 1000.0
