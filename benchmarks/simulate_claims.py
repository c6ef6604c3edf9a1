"""How often the claims' rules confirm what is not there, and what is, by simulation.

`python -m benchmarks.simulate_claims` writes `benchmarks/results/simulate_claims.json` and `.md`.
Each draw is a study: a table of figures by replicate and technique, task or block, in which splits,
teachers, students and records vary; the very rules of `studies.claims` judge it. At the edge means
that the truth lies exactly at a rule's margin, where it errs most often.
"""

import argparse
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from studies.claims.every_technique_leaks import every_technique_leaks
from studies.claims.levels import factors_matter, levels_differ
from studies.claims.matching import at_common_utility
from studies.claims.measures_disagree import measures_disagree
from studies.claims.sample import Sample
from studies.claims.technique_matters import technique_matters
from studies.claims.verdict import (
    BLOCK_MARGIN,
    MEMBERSHIP_MARGIN,
    MEMORIZATION_MARGIN,
    Outcome,
    Verdict,
    all_of,
    state,
)

RESULTS = Path(__file__).parent / "results"
TECHNIQUES = ("kd", "seqkd", "imitkd", "gkd", "minillm", "distillm")
# At most 35 of 500: an exact 5% test exceeds 25 half of the time.
ALLOWED = 0.07
Draw = Callable[[np.random.Generator, int], Verdict]


@dataclass(frozen=True)
class Noise:
    """Standard deviations, in AUROC; of token accuracy a third of it, as between real runs."""

    split: float = 0.03
    teacher: float = 0.02
    student: float = 0.015
    records: float = 0.03
    shared_records: float = 0.6


NOISE = Noise()


def swaps(rng: np.random.Generator, r: int, leaks: np.ndarray) -> np.ndarray:
    """[r, K] swap estimates (A + 1 - B)/2 of techniques that leak `leaks` above 0.5.

    A split's luck moves A and B alike; the teacher's moves all techniques; records are shared by
    techniques in part.
    """
    k = len(leaks)
    leak = leaks + NOISE.teacher * rng.normal(size=(r, 1)) + NOISE.student * rng.normal(size=(r, k))
    luck = NOISE.split * rng.normal(size=(r, 1))
    aurocs = []
    for sign in (1.0, -1.0):
        common, own = rng.normal(size=(r, 1)), rng.normal(size=(r, k))
        share = NOISE.shared_records
        noise = NOISE.records * (share**0.5 * common + (1.0 - share) ** 0.5 * own)
        aurocs.append(np.clip(0.5 + sign * leak + luck + noise, 0.0, 1.0))
    return (aurocs[0] + 1.0 - aurocs[1]) / 2.0


def excesses(rng: np.random.Generator, r: int, means: np.ndarray) -> np.ndarray:
    """[r, K] excess of token accuracy."""
    return means + (swaps(rng, r, np.zeros(len(means))) - 0.5) / 3.0


def sample(values: np.ndarray, columns: tuple[str, ...] = ()) -> Sample:
    """The sample of a table; columns are techniques unless named."""
    names = columns or (TECHNIQUES if values.shape[1] == 6 else ())
    return Sample.of_replicates(names or [str(i) for i in range(values.shape[1])], values)


def verdict(outcome: Outcome, r: int) -> Verdict:
    """What a study with r replicates says of it."""
    return state(outcome, "simulated", r).outcome.verdict


def leakage(leaks: np.ndarray, means: np.ndarray) -> Draw:
    """C1 with these true leaks and excesses."""

    def draw(rng: np.random.Generator, r: int) -> Verdict:
        tests = (
            every_technique_leaks(sample(swaps(rng, r, leaks)), 0.5, MEMBERSHIP_MARGIN),
            every_technique_leaks(sample(excesses(rng, r, means)), 0.0, MEMORIZATION_MARGIN),
        )
        return all_of(verdict(one, r) for one in tests)

    return draw


def techniques(leaks: np.ndarray, progress: np.ndarray) -> Draw:
    """C2, at equal utility: risk grows with what a student has learnt, up to `progress`.

    Args:
        leaks: [6] leak at the utility that all techniques reach.
        progress: [6] how far each technique's last checkpoint comes, 1 = from 6 to 4 nats.
    """

    def draw(rng: np.random.Generator, r: int) -> Verdict:
        ends = progress * (1.0 + 0.05 * rng.normal(size=(r, 6)))
        full = swaps(rng, r, leaks)
        rows = []
        for replicate in range(r):
            curves = {}
            for k, name in enumerate(TECHNIQUES):
                way = np.linspace(0.0, ends[replicate, k], 5)
                risks = 0.5 + way / ends[replicate].min() * (full[replicate, k] - 0.5)
                curves[name] = list(zip(6.0 - 2.0 * way, risks, strict=True))
            rows.append(list(at_common_utility(curves).values()))
        return verdict(technique_matters(sample(np.array(rows, dtype=float)), MEMBERSHIP_MARGIN), r)

    return draw


def factors(spreads: tuple[float, float, float]) -> Draw:
    """C3: one level of each factor (of 4, 3 and 7) lies above the others by its spread."""

    def draw(rng: np.random.Generator, r: int) -> Verdict:
        samples = {
            name: sample(swaps(rng, r, 0.15 + spread * np.eye(count)[0]))
            for name, count, spread in zip("ost", (4, 3, 7), spreads, strict=True)
        }
        return all_of(
            verdict(one, r) for one in factors_matter(samples, MEMBERSHIP_MARGIN).values()
        )

    return draw


def crossing(membership: np.ndarray, memorization: np.ndarray) -> Draw:
    """C4 with these true means."""

    def draw(rng: np.random.Generator, r: int) -> Verdict:
        both = sample(swaps(rng, r, membership)), sample(excesses(rng, r, memorization))
        return verdict(measures_disagree(*both), r)

    return draw


def blocks(spread: float) -> Draw:
    """C5: one of eight blocks lies above the others by a spread."""

    def draw(rng: np.random.Generator, r: int) -> Verdict:
        values = swaps(rng, r, 0.1 + spread * np.eye(8)[0])
        return verdict(levels_differ(sample(values), BLOCK_MARGIN), r)

    return draw


@dataclass(frozen=True)
class Scenario:
    """A kind of study.

    Attributes:
        claim: C1 to C5.
        what: The truth.
        effect: Whether the claim is true.
        draw: Judges one simulated study.
    """

    claim: str
    what: str
    effect: bool
    draw: Draw


def scenarios() -> list[Scenario]:
    """All of them; "no effect" is the criterion, the edges show where rules err most."""
    even, full = np.full(6, 0.15), np.ones(6)
    silent = np.where(np.arange(6) == 0, 0.0, 0.15)
    edge = even - 0.02 * (np.array(TECHNIQUES) == "minillm")
    strong = even - 0.08 * (np.array(TECHNIQUES) == "minillm")
    slow = np.where(np.array(TECHNIQUES) == "minillm", 0.5, 1.0)
    pair = np.zeros(6)
    pair[:2] = 1.0, -1.0
    return [
        Scenario("C1", "no technique leaks", False, leakage(0 * even, 0 * even)),
        Scenario("C1", "edge: one of six leaks nothing", False, leakage(silent, silent / 3)),
        Scenario("C1", "edge: one of six memorizes nothing", False, leakage(even, silent / 3)),
        Scenario("C1", "each leaks 0.05, excess 0.02", True, leakage(even / 3, even / 7.5)),
        Scenario("C2", "no technique differs", False, techniques(even, full)),
        Scenario("C2", "MiniLLM leaks less only as it learns less", False, techniques(even, slow)),
        Scenario("C2", "edge: MiniLLM leaks 0.02 less", False, techniques(edge, full)),
        Scenario("C2", "MiniLLM leaks 0.08 less", True, techniques(strong, full)),
        Scenario("C3", "no factor matters", False, factors((0.0, 0.0, 0.0))),
        Scenario("C3", "edge: each moves 0.02", False, factors((0.02, 0.02, 0.02))),
        Scenario("C3", "edge: two move 0.15, one 0.02", False, factors((0.15, 0.15, 0.02))),
        Scenario("C3", "each moves 0.15", True, factors((0.15, 0.15, 0.15))),
        Scenario("C4", "no technique differs", False, crossing(even, even / 5)),
        Scenario(
            "C4", "both rank alike", False, crossing(even + 0.04 * pair, even / 5 + 0.02 * pair)
        ),
        Scenario(
            "C4",
            "edge: membership 0.1 apart, memorization 0.01 the other way",
            False,
            crossing(even + 0.05 * pair, even / 5 - 0.005 * pair),
        ),
        Scenario(
            "C4",
            "a pair crosses by 0.12 and 0.06",
            True,
            crossing(even + 0.06 * pair, even / 5 - 0.03 * pair),
        ),
        Scenario("C5", "blocks are equal", False, blocks(0.0)),
        Scenario("C5", "edge: one lies 0.05 above", False, blocks(BLOCK_MARGIN)),
        Scenario("C5", "one lies 0.15 above", True, blocks(0.15)),
    ]


@dataclass(frozen=True)
class Row:
    """Verdicts of one kind of study."""

    claim: str
    what: str
    effect: bool
    replicates: int
    draws: int
    confirmed: int
    refuted: int
    undecided: int

    @property
    def met(self) -> bool:
        """Whether a study without effect is confirmed seldom enough."""
        return self.effect or self.confirmed <= ALLOWED * self.draws


def simulate(scenario: Scenario, draws: int, r: int, seed: int = 0) -> Row:
    """Judges `draws` studies of a kind; keyed by its name, whichever others run."""
    rng = np.random.default_rng([seed, r, zlib.crc32(f"{scenario.claim}{scenario.what}".encode())])
    found = [scenario.draw(rng, r) for _ in range(draws)]
    counts = [found.count(name) for name in ("confirmed", "refuted", "undecided")]
    return Row(scenario.claim, scenario.what, scenario.effect, r, draws, *counts)


def page(rows: list[Row], seconds: float) -> str:
    """The table as Markdown."""
    lines = [
        f"| {row.claim} | {row.what} | {'yes' if row.effect else 'no'} | {row.replicates} "
        f"| {row.confirmed / row.draws:.3f} | {row.refuted / row.draws:.3f} "
        f"| {row.undecided / row.draws:.3f} | {'' if row.effect else 'yes' if row.met else 'NO'} |"
        for row in rows
    ]
    table = "\n".join(lines)
    return f"""# Verdicts on simulated studies

Written by `python -m benchmarks.simulate_claims` in {seconds:.0f} s, {rows[0].draws} studies a row.
To reach: where a claim is not true, at most {ALLOWED:.0%} of the studies confirm it (35 of 500).
Standard deviations, in AUROC: split {NOISE.split}, teacher {NOISE.teacher}, student
{NOISE.student}, records {NOISE.records} (share common to techniques {NOISE.shared_records}); a
third of it in token accuracy. *Edge*: the truth lies exactly at the rule's margin.

| claim | truth | claim true | replicates | confirmed | refuted | undecided | at most 7% |
| --- | --- | --- | ---: | ---: | ---: | ---: | --- |
{table}
"""


def main() -> None:
    """Runs the simulation and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500, help="studies of each kind")
    parser.add_argument("--replicates", type=int, nargs="+", default=[5, 10], help="in a study")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    start = time.perf_counter()
    kinds = [(one, r) for one in scenarios() for r in options.replicates]
    rows = [simulate(one, options.draws, r) for one, r in track(kinds, "studies")]
    seconds = time.perf_counter() - start
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"seconds": seconds, "noise": asdict(NOISE), "rows": [asdict(row) for row in rows]}
    (options.out / "simulate_claims.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "simulate_claims.md").write_text(page(rows, seconds))


if __name__ == "__main__":
    main()
