"""How often a verdict's word is wrong, by simulation where it is known what leaks.

`python -m benchmarks.simulate_verdicts` writes `benchmarks/results/verdicts.md`. Each draw is an
audit of n members and n non-members: normal scores, of which a share of the members may be given
away whole (above every other score), or all of them moved to a known AUROC. Clusters of four share
nine tenths of their variance. A target is a rate: a count misses it where a rule of just that rate
would be as far off in fewer than 1 of 1,000 simulations.
"""

import argparse
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import stats

from audits.statistics import auroc, certified_tpr
from audits.statistics.verdict import RECORDS_FOR_CLEAN, TAIL_FPR, auroc_verdict, is_clean

RESULTS = Path(__file__).parent / "results"
CLUSTER, SHARED = 4, 0.9
EXPOSED = 99.0
CHANCE_OF_A_MISS = 0.001
Ids = NDArray[np.int64] | None
Asked = Callable[["Audit"], bool]


@dataclass(frozen=True)
class Population:
    """What the scores of an audit are drawn from.

    Attributes:
        truth: In words.
        n: Records a side.
        exposed: Share of the members whose score lies above all others.
        area: AUROC of the other members.
        clustered: Whether records come in clusters.
    """

    truth: str
    n: int
    exposed: float = 0.0
    area: float = 0.5
    clustered: bool = False


@dataclass(frozen=True)
class Audit:
    """Scores of one audit, and the clusters that its intervals count."""

    members: NDArray[np.float64]
    nonmembers: NDArray[np.float64]
    member_clusters: Ids
    nonmember_clusters: Ids

    def interval(self, level: float, *, clusters: bool = True) -> tuple[float, float]:
        """The AUROC's interval; without clusters, as if records were independent."""
        found = auroc(
            self.members,
            self.nonmembers,
            level,
            member_clusters=self.member_clusters if clusters else None,
            nonmember_clusters=self.nonmember_clusters if clusters else None,
        )
        return found.lower, found.upper

    def word(self) -> str:
        """The verdict's."""
        tail = certified_tpr(
            self.members,
            self.nonmembers,
            TAIL_FPR,
            member_clusters=self.member_clusters,
            nonmember_clusters=self.nonmember_clusters,
        )
        verdict = auroc_verdict(*self.interval(0.95), False, tail.upper, tpr_lower=tail.lower)
        return verdict.word

    def is_equivalent(self, *, clusters: bool = True) -> bool:
        """Whether the AUROC alone is shown to be that of chance."""
        return is_clean(*self.interval(0.90, clusters=clusters), 0.0)

    def is_alarming(self, *, clusters: bool = True) -> bool:
        """Whether a control's 99.9% interval excludes chance."""
        lower, upper = self.interval(0.999, clusters=clusters)
        return not lower <= 0.5 <= upper


@dataclass(frozen=True)
class Cell:
    """A question to audits of a population, and how often the answer may, or should, be yes."""

    population: Population
    question: str
    asked: Asked
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class Row:
    """How often the answer was yes."""

    cell: Cell
    draws: int
    yes: int

    @property
    def met(self) -> bool | None:
        """Whether the count is one that the target allows; None without a target."""
        most, least = self.cell.at_most, self.cell.at_least
        if most is None and least is None:
            return None
        over = most is None or self.yes <= stats.binom.isf(CHANCE_OF_A_MISS, self.draws, most)
        under = least is None or self.yes >= stats.binom.ppf(CHANCE_OF_A_MISS, self.draws, least)
        return bool(over and under)

    @property
    def target(self) -> str:
        """In words; empty without one."""
        most, least = self.cell.at_most, self.cell.at_least
        return f"<= {most:g}" if most is not None else f">= {least:g}" if least is not None else ""


def drawn(population: Population, rng: np.random.Generator) -> Audit:
    """Draws one audit."""
    n, ids = population.n, np.arange(population.n, dtype=np.int64) // CLUSTER
    sides = []
    for _ in range(2):
        own = rng.normal(size=n)
        if population.clustered:
            common = rng.normal(size=ids[-1] + 1)[ids]
            own = SHARED**0.5 * common + (1.0 - SHARED) ** 0.5 * own
        sides.append(own)
    members = sides[0] + float(stats.norm.ppf(population.area)) * 2**0.5
    members[rng.random(n) < population.exposed] = EXPOSED
    clusters = (ids, ids + n) if population.clustered else (None, None)
    return Audit(members, sides[1], *clusters)


def _is_called(word: str) -> Asked:
    return lambda audit: audit.word() == word


def cells() -> list[Cell]:
    """Every question, those on one population beside each other."""
    clean, leaks = _is_called("clean"), _is_called("leaks")
    found = []
    for n in (1_000, 10_000):
        exposed = Population("4% of the members exposed", n, exposed=0.04)
        found += [
            Cell(exposed, "AUROC alone equivalent to chance", Audit.is_equivalent),
            Cell(exposed, "clean", clean, at_most=0.05),
            Cell(exposed, "leaks", leaks, at_least=0.8),
        ]
    for share, most in ((0.03, 0.05), (0.02, None), (0.01, None)):
        exposed = Population(f"{share:.0%} of the members exposed", 1_000, exposed=share)
        found.append(Cell(exposed, "clean", clean, at_most=most))
    for n, least in ((200, None), (600, None), (RECORDS_FOR_CLEAN, 0.8)):
        nothing = Population("no leak", n)
        found.append(Cell(nothing, "clean", clean, at_least=least))
        found.append(Cell(nothing, "leaks", leaks, at_most=0.05))
    edge = Population("AUROC 0.55, clusters of 4", 1_200, area=0.55, clustered=True)
    nothing = Population("no leak, clusters of 4", 1_200, clustered=True)
    return [
        *found,
        Cell(edge, "AUROC equivalent, clusters ignored", lambda a: a.is_equivalent(clusters=False)),
        Cell(edge, "AUROC equivalent", Audit.is_equivalent, at_most=0.05),
        Cell(edge, "clean", clean, at_most=0.05),
        Cell(nothing, "control's 99.9%, clusters ignored", lambda a: a.is_alarming(clusters=False)),
        Cell(nothing, "control's 99.9% alert", Audit.is_alarming, at_most=0.001),
        Cell(nothing, "leaks", leaks, at_most=0.05),
    ]


def simulate(chosen: Sequence[Cell], draws: int, seed: int = 0) -> list[Row]:
    """Asks all questions on one population of the same audits, keyed by the population.

    Args:
        chosen: Questions on one population.
        draws: Audits.
        seed: Of the draws.
    """
    population = chosen[0].population
    key = zlib.crc32(f"{population.truth}|{population.n}".encode())
    rng = np.random.default_rng([seed, key])
    counts = np.zeros(len(chosen), dtype=np.int64)
    for _ in range(draws):
        audit = drawn(population, rng)
        counts += [one.asked(audit) for one in chosen]
    return [Row(one, draws, int(yes)) for one, yes in zip(chosen, counts, strict=True)]


def page(rows: Sequence[Row], command: str, seconds: float) -> str:
    """The table as Markdown."""
    missed = sum(row.met is False for row in rows)
    lines = [
        f"| {row.cell.population.truth} | {row.cell.population.n:,} | {row.cell.question} "
        f"| {row.draws:,} | {row.yes / row.draws:.3f} | {row.target} "
        f"| {'' if row.met is None else 'yes' if row.met else 'NO'} |"
        for row in rows
    ]
    return "\n".join(
        [
            "# Words of verdicts on simulated audits",
            "",
            f"Written by `{command}` in {seconds:.0f} s.",
            "Share of audits with the word, or the answer, in question. A target is a rate: a",
            "share misses it where a rule of just that rate would be as far off in fewer than 1 of",
            "1,000 simulations. Records of a cluster share nine tenths of their variance.",
            "",
            f"{missed} of {sum(row.met is not None for row in rows)} targets missed.",
            "",
            "| truth | records a side | question | audits | share | target | met |",
            "| --- | ---: | --- | ---: | ---: | --- | --- |",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Runs the simulation and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000, help="audits of 1,000 records a side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of verdicts.md")
    options = parser.parse_args()
    start = time.perf_counter()
    groups: dict[Population, list[Cell]] = {}
    for cell in cells():
        groups.setdefault(cell.population, []).append(cell)
    rows = []
    for population, own in track(list(groups.items()), "verdicts"):
        draws = max(1, options.draws * 1_000 // max(1_000, population.n))
        rows += simulate(own, draws, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.simulate_verdicts --draws {options.draws}"
    seconds = time.perf_counter() - start
    text = page(rows, f"{command} --seed {options.seed}", seconds)
    (options.out / "verdicts.md").write_text(text)


if __name__ == "__main__":
    main()
