"""How cost grows: exponents of time against records, tokens, vocabulary, blocks, draws, ranks.

`python -m benchmarks.scaling` writes `benchmarks/results/scaling.json` and `.md`. A figure is the
processor time of one thread, so that a busy machine matters little; on one axis only its own
quantity changes; quick axes are repeated more often. The exponent is the slope of log seconds on
log size over the three largest sizes, where fixed costs count for least, with Student's 95%
interval over all repetitions there. 1 is linear. An axis whose interval lies above 1.1 needs a
reason, which stands beside it.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from benchmarks.scaling_axes import AXES, Axis
from benchmarks.scaling_ranks import processor_seconds_of_ranks
from benchmarks.scoring import describe_machine

RESULTS = Path(__file__).parent / "results"
LINEAR = 1.1
LARGEST = 3
# An axis is repeated again while all of it has taken less than this, so many times at most.
QUICK_S, MOST_REPEATS = 60.0, 10
RANKS = (1, 2)


@dataclass(frozen=True)
class Growth:
    """What an axis was found to cost.

    Attributes:
        name: Of the axis.
        sizes: Of the figures.
        seconds: Processor seconds of every repetition of every size.
        exponent: Slope at the largest sizes.
        lower: Of its interval.
        upper: Of its interval.
        reason: See :class:`Axis`.
    """

    name: str
    sizes: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]
    exponent: float
    lower: float
    upper: float
    reason: str

    @property
    def verdict(self) -> str:
        """Linear or less, faster for a reason, or faster."""
        if self.lower <= LINEAR:
            return "linear or less"
        return self.reason or "FASTER THAN LINEAR"


def fit(sizes: Sequence[int], seconds: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Returns the slope of log seconds on log size with its 95% interval.

    Args:
        sizes: At least three.
        seconds: Repetitions at each size.
    """
    x = np.log(np.repeat(sizes, [len(one) for one in seconds]))
    y = np.log(np.concatenate([np.asarray(one) for one in seconds]))
    line = stats.linregress(x, y)
    half = float(stats.t.ppf(0.975, len(x) - 2)) * float(line.stderr)
    return float(line.slope), float(line.slope) - half, float(line.slope) + half


def measure(axis: Axis, repeats: int) -> Growth:
    """Runs every size, all of them in turn in every repetition.

    Args:
        axis: What grows.
        repeats: Fewest repetitions.
    """
    seconds: list[list[float]] = [[] for _ in axis.sizes]
    while len(seconds[0]) < repeats or (
        len(seconds[0]) < MOST_REPEATS and sum(map(sum, seconds)) < QUICK_S
    ):
        for place, size in enumerate(axis.sizes):
            work = axis.prepare(size)
            began = time.process_time()
            work()
            seconds[place].append(time.process_time() - began)
    slope, lower, upper = fit(axis.sizes[-LARGEST:], seconds[-LARGEST:])
    sys.stderr.write(f"{axis.name}: {slope:.2f} [{lower:.2f}, {upper:.2f}]\n")
    figures = tuple(tuple(one) for one in seconds)
    return Growth(axis.name, axis.sizes, figures, slope, lower, upper, axis.reason)


def as_markdown(found: Sequence[Growth], ranks: Sequence[dict[int, float]], machine: str) -> str:
    """The table of exponents, and what several ranks cost together."""
    lines = [
        "# How cost grows",
        "",
        machine,
        "",
        "| Cost of, against | from | to | s at the largest | exponent | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {one.name} | {one.sizes[0]:,} | {one.sizes[-1]:,} | "
            f"{float(np.median(one.seconds[-1])):.2f} | {one.exponent:.2f} "
            f"[{one.lower:.2f}, {one.upper:.2f}] | {one.verdict} |"
            for one in found
        ),
        "",
        "Processor seconds of one thread; the exponent is that of the three largest sizes.",
        "",
        "A scoring pass dealt to ranks, processor seconds of all together over those of one, median"
        f" of {len(ranks)} rounds:",
        ", ".join(
            f"{np.median([one[n] / one[1] for one in ranks]):.2f} with {n}" for n in RANKS[1:]
        )
        + ".",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measures all axes, or those whose name holds a word."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="fewest repetitions of every size")
    parser.add_argument("--only", default="", help="axes whose name holds this")
    parser.add_argument("--most", type=float, default=math.inf, help="largest size of an axis")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for both files")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    chosen = [
        replace(axis, sizes=tuple(size for size in axis.sizes if size <= options.most))
        for axis in AXES
        if options.only in axis.name
    ]
    few = [axis.name for axis in chosen if len(axis.sizes) < LARGEST]
    if few or not chosen:
        parser.error(f"fewer than {LARGEST} sizes of {few}" if few else f"no axis {options.only}")
    found = [measure(axis, options.repeats) for axis in chosen]
    ranks = [
        {n: processor_seconds_of_ranks(n) for n in RANKS} for _ in range(max(options.repeats, 5))
    ]
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    content = {"machine": machine, "axes": [asdict(one) for one in found], "ranks": ranks}
    (options.out / "scaling.json").write_text(json.dumps(content, indent=1) + "\n")
    text = as_markdown(found, ranks, machine)
    (options.out / "scaling.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
