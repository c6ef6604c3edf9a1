"""What is said of single records, by simulation where it is known how exposed each one is.

`python -m benchmarks.simulate_tail` writes `benchmarks/results/tail.md`. Each draw is a pool of
records and some never-seen ones under all worlds, with planted separations. A target is a rate: a
count misses it where a rule of just that rate would be as far off in fewer than 1 of 1,000
simulations.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy import stats

from audits.statistics.estimates import FloatArray
from audits.tail.naming import named_records
from audits.tail.separations import separations
from audits.tail.shares import share_found
from benchmarks.planted_worlds import planted

RESULTS = Path(__file__).parent / "results"
TPR, FPR, RATE, LEVEL = 0.1, 0.001, 0.05, 0.95
CHANCE_OF_A_MISS = 0.001


@dataclass(frozen=True)
class Pool:
    """A pool to draw.

    Attributes:
        truth: In words.
        share: Share of the records that are planted.
        high: Their separation; nan: one of its own for each, exponential of mean 0.7.
        low: Separation of the others.
        worlds: Models.
        records: Of the pool.
        never: Never-seen records.
        degrees: Of the noise's Student's t.
    """

    truth: str
    share: float = 0.0
    high: float = 4.0
    low: float = 0.0
    worlds: int = 16
    records: int = 360
    never: int = 120
    degrees: float = math.inf

    def separations(self, rng: np.random.Generator) -> FloatArray:
        """The true separation of each record, [records]."""
        if math.isnan(self.high):
            return rng.exponential(0.7, self.records)
        planted_records = round(self.share * self.records)
        return np.where(np.arange(self.records) < planted_records, self.high, self.low)

    @property
    def enough(self) -> float:
        """The separation from which on a record is found with the TPR at the FPR."""
        scale = ((self.degrees - 2.0) / self.degrees) ** 0.5 if self.degrees < math.inf else 1.0
        noise = stats.t(self.degrees, scale=scale) if self.degrees < math.inf else stats.norm()
        return float(noise.isf(FPR) - noise.isf(TPR))


@dataclass(frozen=True)
class Draw:
    """What is said of one pool, beside what is true of it.

    Attributes:
        true: Share of records that are found.
        raw: Share of estimated separations from `Pool.enough` on.
        value, lower, upper: Of `share_found`.
        power: Share of the planted records that are named; nan without any.
        false: Share of the named records that make no difference; 0 where none is named.
        named: Number named.
    """

    true: float
    raw: float
    value: float
    lower: float
    upper: float
    power: float
    false: float
    named: int


def draw(pool: Pool, rng: np.random.Generator) -> Draw:
    """Draws one pool and says all of it."""
    truth = pool.separations(rng)
    found = planted(rng, pool.records, pool.worlds, truth, degrees=pool.degrees)
    null = planted(rng, pool.never, pool.worlds, degrees=pool.degrees)
    share, named = share_found(found, null, tpr=TPR, fpr=FPR), named_records(found, null)
    above = truth >= pool.enough
    return Draw(
        float(above.mean()),
        float((separations(found).value >= pool.enough).mean()),
        share.value,
        share.lower,
        share.upper,
        float(named[above].mean()) if above.any() else math.nan,
        float(named[truth == 0.0].sum() / max(1, named.sum())),
        int(named.sum()),
    )


POOLS = (
    Pool("nothing"),
    Pool("nothing, heavy tails", degrees=5.0),
    Pool("nothing", worlds=4),
    Pool("nothing", worlds=64),
    Pool("nothing", records=150, never=40),
    Pool("all at 1", low=1.0),
    Pool("all at 1", low=1.0, worlds=4),
    Pool("all at 1", low=1.0, worlds=64),
    Pool("4% at 4", share=0.04),
    Pool("4% at 4, others at 0.2", share=0.04, low=0.2),
    Pool("4% at 4, heavy tails", share=0.04, degrees=5.0),
    Pool("4% at 4", share=0.04, worlds=4),
    Pool("4% at 4", share=0.04, worlds=64),
    Pool("4% at 4", share=0.04, records=150, never=40),
    Pool("20% at 2.4, others at 0.2", share=0.2, high=2.4, low=0.2),
    Pool("exponential, mean 0.7", high=math.nan),
    Pool("exponential, mean 0.7, heavy tails", high=math.nan, degrees=5.0),
)


def at_most(rate: float, draws: int) -> int:
    """The largest count that a rate explains in 999 of 1,000 simulations."""
    return int(stats.binom.ppf(1.0 - CHANCE_OF_A_MISS, draws, rate))


def line(pool: Pool, drawn: Sequence[Draw]) -> tuple[str, bool]:
    """A row of the table, and whether it meets its targets."""
    n = len(drawn)
    mean = {
        name: float(np.mean([getattr(one, name) for one in drawn]))
        for name in ("true", "raw", "value", "lower", "upper", "named", "power", "false")
    }
    missed = sum(not one.lower <= one.true <= one.upper for one in drawn)
    nothing = not pool.share and not pool.low and not math.isnan(pool.high)
    if nothing:
        wrong = sum(one.named > 0 for one in drawn)
        rare, shown = wrong <= at_most(RATE, n), f"any in {wrong / n:.3f}"
    else:
        false = np.array([one.false for one in drawn])
        # 3.1 standard errors are exceeded with the same chance of 1 in 1,000.
        rare = mean["false"] <= RATE + 3.1 * float(false.std(ddof=1)) / n**0.5
        shown = f"{mean['false']:.3f}"
    met = missed <= at_most(1.0 - LEVEL, n) and rare
    power = "-" if math.isnan(mean["power"]) else f"{mean['power']:.2f}"
    text = (
        f"| {pool.truth} | {pool.worlds} | {pool.records} + {pool.never} | {mean['true']:.3f} "
        f"| {mean['raw']:.3f} | {mean['value']:.3f} | {mean['lower']:.3f} to {mean['upper']:.3f} "
        f"| {missed / n:.3f} | {mean['named']:.1f} | {power} | {shown} "
        f"| {'yes' if met else 'NO'} |"
    )
    return text, met


def main() -> None:
    """Runs the simulation and writes the page."""
    parser = argparse.ArgumentParser(description="Simulate what is said of single records.")
    parser.add_argument("--draws", type=int, default=100, help="pools of a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for tail.md")
    options = parser.parse_args()
    lines, start = [], time.perf_counter()
    for number, pool in enumerate(track(POOLS, "pools")):
        rng = np.random.default_rng([options.seed, number])
        lines.append(line(pool, [draw(pool, rng) for _ in range(options.draws)]))
    seconds = time.perf_counter() - start
    command = f"python -m benchmarks.simulate_tail --draws {options.draws} --seed {options.seed}"
    page = [
        "# What is said of single records",
        "",
        f"Written by `{command}` in {seconds:.0f} s.",
        f"{options.draws} pools of each kind. *True*: share of the records that an attacker finds",
        f"with a TPR of {TPR:g} at an FPR of {FPR:g}. *Raw*: share of estimated separations that",
        "would be enough for it. *Missed*: pools whose 95% interval leaves out the true share, at",
        "most 0.05. *Named*: records named at a false-discovery rate of 5%; *power*: share of the",
        "found ones that are named; *false*: mean share of the named that make no difference, at",
        "most 0.05, or, where nothing is to be found, pools that name any. A target allows for",
        "what chance adds in 1 of 1,000 simulations. Separations are in standard deviations",
        "between worlds; heavy tails are Student's t with 5 degrees of freedom.",
        "",
        f"{sum(not met for _, met in lines)} of {len(lines)} rows miss a target.",
        "",
        "| separations | worlds | pool + never | true | raw | value | mean interval | missed "
        "| named | power | false | met |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- | --- |",
        *(text for text, _ in lines),
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "tail.md").write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
