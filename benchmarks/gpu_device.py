"""What an accelerator can do at most, and how work on it is timed."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Device:
    """Where the benchmark runs.

    Attributes:
        name: cuda or cpu.
    """

    name: str

    @property
    def is_gpu(self) -> bool:
        """Whether it is an accelerator."""
        return self.name == "cuda"

    @property
    def card(self) -> str:
        """Name of the accelerator, or "CPU"."""
        return torch.cuda.get_device_name() if self.is_gpu else "CPU"

    @property
    def free_bytes(self) -> int | None:
        """Memory that nobody holds; None on a CPU."""
        return torch.cuda.mem_get_info()[0] if self.is_gpu else None

    def release(self) -> None:
        """Gives back the memory of what is no longer used."""
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Waits until everything that was asked for is done."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Work) -> float:
        """Runs work to its end and returns how long that took."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def in_turn(self, ways: Mapping[str, Work], rounds: int) -> dict[str, float]:
        """Median seconds of each way; after a warm-up the ways take turns."""
        found: dict[str, list[float]] = {name: [] for name in ways}
        for work in ways.values():
            self.seconds(work)
        for _ in range(rounds):
            for name, work in ways.items():
                found[name].append(self.seconds(work))
        return {name: statistics.median(own) for name, own in found.items()}

    def peak_bytes(self, work: Work) -> int | None:
        """Most memory that work held above what was held before; None on a CPU."""
        if not self.is_gpu:
            work()
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        self.wait()
        return torch.cuda.max_memory_allocated() - before


@dataclass(frozen=True)
class Ceilings:
    """The most that the device does, measured in the same run.

    Attributes:
        bf16: Operations per second of a product of bfloat16 matrices.
        float32: The same in float32, with PyTorch's default for its tensor cores.
        copy: Bytes read and written per second.
    """

    bf16: float
    float32: float
    copy: float


def ceilings(device: Device, size: int, rounds: int) -> Ceilings:
    """Measures products of square matrices and copies.

    Args:
        device: Where.
        size: Rows of the matrices; a copy moves 8 `size`^2 bytes.
        rounds: Repetitions; the median counts.
    """
    square = torch.randn(size, size, device=device.name)
    half = square.bfloat16()
    target = torch.empty_like(square)
    seconds = device.in_turn(
        {
            "bf16": lambda: torch.mm(half, half),
            "float32": lambda: torch.mm(square, square),
            "copy": lambda: target.copy_(square),
        },
        rounds,
    )
    operations = 2.0 * size**3
    return Ceilings(
        operations / seconds["bf16"],
        operations / seconds["float32"],
        2.0 * square.numel() * square.element_size() / seconds["copy"],
    )
