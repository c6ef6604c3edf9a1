"""Tests of whole sets on the demo: false alarms where nobody was trained on, and sets recognised.

`python -m benchmarks.simulate_sets` writes `benchmarks/results/sets.md` from the runs of a finished
study (`make demo`). A null draw deals records of one side, which the run's training never met, to
two sides by a fair coin for each cluster: given the scores, draws are independent, so that their
alarms are binomial. Learning and testing half are dealt anew in every draw.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from audits.membership.dataset_inference import (
    SET_EFFECT,
    SETS_DETECTED,
    dataset_inference_rows,
)
from audits.membership.metrics import ScoredRecords, area
from audits.results import read_table
from audits.rows import ResultRow
from common.keys import key
from datamodules.manifest import MANIFEST_NAME, read_manifest

RESULTS = Path(__file__).parent / "results"
STUDY = Path("runs/quickstart")
MEMBERS, OTHERS = "private", "held_out"
SIZES = (5, 10, 20, 50)
LEVEL = 0.05
ALLOWED = 0.085
"""Share of null draws: right tests raise more than 17 alarms in 200 draws in 1.2% of cases."""

Side = Sequence[ScoredRecords]
Draw = Callable[[np.random.Generator], tuple[Side, Side]]


@dataclass(frozen=True)
class Run:
    """Scores of one run at its last step, of each population by each attack, the loss first."""

    label: str
    role: str
    sides: dict[str, Side]

    @property
    def auroc(self) -> float:
        """Of the first attack."""
        return float(area(self.sides[MEMBERS][0], self.sides[OTHERS][0]).value)


def read_runs(study: Path) -> list[Run]:
    """Reads the finished runs of a study, of each role the one first that leaks least."""
    found = []
    for path in sorted(study.glob("cells/*/scores.parquet")):
        role = str(read_table(path.parent, "results").column("role")[0])
        scores = read_table(path.parent, "scores").to_pandas()
        rows = read_manifest(path.parent / "private" / MANIFEST_NAME)
        clusters = {row.id: key(row.cluster) for row in rows}
        scores = scores[(scores["step"] == scores["step"].max()) & scores["block"].isna()]
        sides = {name: _side(name, scores, clusters) for name in (MEMBERS, OTHERS)}
        found.append(Run(str(scores["run"].iloc[0]), role, sides))
    return sorted(found, key=lambda run: (run.role, run.auroc))


def _side(population: str, scores: pd.DataFrame, clusters: dict[str, int]) -> Side:
    own = scores[scores["population"] == population]
    table = own.pivot(index="record", columns=["name", "params"], values="score")
    ids = list(table.index)
    numbers = np.array([clusters[one] for one in ids], dtype=np.int64)
    return [
        ScoredRecords(population, ids, ["all"] * len(ids), numbers, table[attack].to_numpy())
        for attack in table.columns
    ]


def rehalved(side: Side, salt: int) -> Side:
    """The same records with clusters of other names, which decide on the half of each."""
    names = np.array([key(salt, int(one)) for one in side[0].clusters], dtype=np.int64)
    return [replace(one, clusters=names) for one in side]


def opposed(run: Run, rng: np.random.Generator) -> tuple[Side, Side]:
    """Members and others as they are, with halves dealt anew."""
    salt = int(rng.integers(2**31))
    return rehalved(run.sides[MEMBERS], salt), rehalved(run.sides[OTHERS], salt)


def relabelled(side: Side, rng: np.random.Generator) -> tuple[Side, Side]:
    """One side dealt to two by coins, with halves dealt anew."""
    side = rehalved(side, int(rng.integers(2**31)))
    names, index = np.unique(side[0].clusters, return_inverse=True)
    inside = (rng.random(names.size) < 0.5)[index]
    return [one.where(inside) for one in side], [one.where(~inside) for one in side]


def normal(n: int, attacks: int, rng: np.random.Generator) -> tuple[Side, Side]:
    """Fresh records: scores of one normal distribution, correlated over attacks."""
    sides = []
    for population, first in ((MEMBERS, 0), (OTHERS, n)):
        common = rng.normal(size=n)
        ids, numbers = [str(first + i) for i in range(n)], np.arange(first, first + n)
        sides.append(
            [
                ScoredRecords(population, ids, ["all"] * n, numbers, common + rng.normal(size=n))
                for _ in range(attacks)
            ]
        )
    return sides[0], sides[1]


def rows_of(draw: Draw, draws: int, seed: int) -> list[list[ResultRow]]:
    """Rows of the test in each draw."""
    rng = np.random.default_rng(seed)
    return [
        rows for _ in range(draws) if (rows := dataset_inference_rows(*draw(rng), shifted=None))
    ]


def shares(found: Sequence[Sequence[ResultRow]]) -> Iterator[str]:
    """Mean share of sets that are recognised, by size."""
    for size in SIZES:
        values = [
            float(str(row.value))
            for rows in found
            for row in rows
            if row.metric == SETS_DETECTED and row.params["set_size"] == size
        ]
        yield f"{np.mean(values):.3f}" if values else "-"


def alarms(found: Sequence[Sequence[ResultRow]]) -> int:
    """Draws in which all records of the testing half together are taken for trained on."""
    effects = (row for rows in found for row in rows if row.metric == SET_EFFECT)
    return sum(float(str(row.p_value)) <= LEVEL for row in effects)


def null_line(what: str, found: Sequence[Sequence[ResultRow]]) -> str:
    """A row of the table of false alarms."""
    count, most = alarms(found), int(ALLOWED * len(found))
    met = "yes" if count <= most else "NO"
    return f"| {what} | {len(found)} | {count} | <= {most} | {met} | {' | '.join(shares(found))} |"


def power_line(run: Run, found: Sequence[Sequence[ResultRow]]) -> str:
    """A row of the table of sets recognised."""
    rate = f"{alarms(found) / max(1, len(found)):.2f}"
    return (
        f"| {run.label} | {run.auroc:.3f} | {len(found)} | {rate} | {' | '.join(shares(found))} |"
    )


def page(null: Sequence[str], power: Sequence[str], command: str, seconds: float) -> str:
    """What is written."""
    sizes = " | ".join(f"sets of {size}" for size in SIZES)
    numbers = " ---: |" * len(SIZES)
    return "\n".join(
        [
            "# Sets of records that are recognised as trained on",
            "",
            f"Written by `{command}` in {seconds:.0f} s. Units are clusters of near-duplicates.",
            "",
            "## Records that nobody trained on",
            "",
            "Alarms: draws whose p-value over all records of the testing half is at most 0.05.",
            "Columns of sizes: mean share of sets with p <= 0.05, about 0.05. Sets of a draw share",
            "records and weights, so that these vary more; of 50 there are sets in few draws.",
            "",
            f"| records | draws | alarms | target | met | {sizes} |",
            f"| --- | ---: | ---: | ---: | --- |{numbers}",
            *null,
            "",
            "## Records that the teacher was trained on, and no student",
            "",
            "The weakest student is the first line. Halves are dealt anew in every draw, of the",
            "same records: shares say what these runs give away, and have no interval.",
            "",
            f"| run | AUROC of the loss | draws | all: p <= 0.05 | {sizes} |",
            f"| --- | ---: | ---: | ---: |{numbers}",
            *power,
            "",
        ]
    )


def main() -> None:
    """Runs the simulation and writes the page."""
    parser = argparse.ArgumentParser(description="Try tests of whole sets on a study's runs.")
    parser.add_argument("--study", type=Path, default=STUDY, help="folder of a finished study")
    parser.add_argument("--draws", type=int, default=200, help="null draws of a kind")
    parser.add_argument("--halvings", type=int, default=20, help="draws of halves for a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for sets.md")
    options = parser.parse_args()
    start = time.perf_counter()
    runs = read_runs(options.study)
    students = [run for run in runs if run.role == "student"]
    others = [run for run in runs if run.role in ("teacher", "control")]
    if not students:
        parser.error(f"{options.study} has no finished student: run make demo, or name a study")
    weakest = students[0]
    nulls: dict[str, Draw] = {
        "normal scores, fresh in every draw": partial(normal, 90, len(weakest.sides[OTHERS])),
        f"held-out records under {weakest.label}": partial(relabelled, weakest.sides[OTHERS]),
    }
    null = [
        null_line(what, rows_of(draw, options.draws, options.seed))
        for what, draw in track(nulls.items(), "null draws", total=len(nulls))
    ]
    power = [
        power_line(run, rows_of(partial(opposed, run), options.halvings, options.seed))
        for run in track([*students, *others], "runs")
    ]
    command = f"python -m benchmarks.simulate_sets --draws {options.draws} --seed {options.seed}"
    options.out.mkdir(parents=True, exist_ok=True)
    text = page(null, power, command, time.perf_counter() - start)
    (options.out / "sets.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
