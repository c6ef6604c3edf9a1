"""False alarms of the blind baseline, by simulation: how often it calls one source two.

`python -m benchmarks.simulate_blind` writes `benchmarks/results/blind.md`. Each null split deals
records of one source to two sides by lot; each planted split has non-members of another wording.
Splits of one pool share the pool's features and folds, which do not depend on labels.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.progress import track

from audits.scoring.blind_baseline import BlindOptions, BlindVerdict, judge
from audits.scoring.text_folds import TextFeatures, fold_aurocs, grouped_folds
from audits.statistics.multiplicity import permuted_labels
from common.keys import key
from datamodules.near_duplicates import cluster_records
from datamodules.records import InstructionRecord, read_records
from datamodules.synthetic import BUILTIN, generate_records

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Pool:
    """Records of one source with their clusters."""

    records: Sequence[InstructionRecord]
    clusters: np.ndarray

    @staticmethod
    def drawn(records: Sequence[InstructionRecord], size: int, seed: int) -> "Pool":
        """Draws records with distinct contents."""
        order = np.random.default_rng(seed).permutation(len(records))
        distinct = {records[i].content: records[i] for i in order}
        chosen = list(distinct.values())[:size]
        names = cluster_records(chosen)
        return Pool(chosen, np.array([key(name) for name in names], dtype=np.int64))

    def verdicts(self, labels: np.ndarray, options: BlindOptions) -> list[BlindVerdict]:
        """Judges several labellings [N, S], each with permutations of its own."""
        rng = np.random.default_rng(key(*(one.content for one in self.records)))
        every = np.hstack(
            [
                permuted_labels(labels[:, s], self.clusters, options.permutations, rng)
                for s in range(labels.shape[1])
            ]
        )
        tasks = [record.task for record in self.records]
        folds = grouped_folds(tasks, self.clusters, options.folds, options.seed, options.repeats)
        aurocs = fold_aurocs(TextFeatures.of(self.records), every, list(folds))
        return [
            judge(
                own[0],
                own[1:],
                (int(labels[:, s].sum()), int((~labels[:, s]).sum())),
                options.margin,
            )
            for s, own in enumerate(aurocs.reshape(labels.shape[1], -1))
        ]


def null_labels(pool: Pool, splits: int, seed: int) -> np.ndarray:
    """[N, S] sides by a fair coin for each cluster."""
    names, index = np.unique(pool.clusters, return_inverse=True)
    return np.asarray(np.random.default_rng(seed).random((names.size, splits))[index] < 0.5)


def reworded(record: InstructionRecord) -> InstructionRecord:
    """The record as a source with another habit of asking would word it."""
    return replace(record, instruction=f"Please help. {record.instruction}")


def planted(pool: Pool, seed: int) -> tuple[Pool, np.ndarray]:
    """The pool with the non-members reworded, and the labels [N, 1]."""
    labels = null_labels(pool, 1, seed)
    records = [
        record if inside else reworded(record)
        for record, inside in zip(pool.records, labels[:, 0], strict=True)
    ]
    return Pool(records, pool.clusters), labels


def line(name: str, size: int, found: Sequence[BlindVerdict]) -> str:
    """A row of the table."""
    shifted = [one.shifted for one in found]
    counts = " | ".join(str(shifted.count(verdict)) for verdict in (True, False, None))
    p_values = np.array([one.p_value for one in found])
    mean = np.mean([one.auroc for one in found])
    small, half = np.mean(p_values <= 0.05), np.mean(p_values <= 0.5)
    needed = np.median([one.needed for one in found])
    return (
        f"| {name} | {size} | {len(found)} | {counts} "
        f"| {mean:.3f} | {small:.3f} | {half:.3f} | {needed:.0f} |"
    )


def main() -> None:
    """Runs the simulation and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default=BUILTIN, help="builtin, or a file of records")
    parser.add_argument("--size", type=int, default=400, help="records of a pool, both sides")
    parser.add_argument("--pools", type=int, default=50, help="pools")
    parser.add_argument("--splits", type=int, default=10, help="null splits of each pool")
    parser.add_argument("--repeats", type=int, default=3, help="cross-validations")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for blind.md")
    options = parser.parse_args()
    whole = options.source == BUILTIN
    records = generate_records(8000, 0) if whole else read_records(options.source)
    blind = BlindOptions(repeats=options.repeats)
    null: list[BlindVerdict] = []
    found: list[BlindVerdict] = []
    start = time.perf_counter()
    for seed in track(range(options.pools), "splits"):
        pool = Pool.drawn(records, options.size, seed)
        null += pool.verdicts(null_labels(pool, options.splits, seed), blind)
        other, labels = planted(pool, seed)
        found += other.verdicts(labels, blind)
    page = f"""# Verdicts of the blind baseline

Written by `python -m benchmarks.simulate_blind --source {Path(options.source).name} --size
{options.size} --pools {options.pools} --splits {options.splits} --repeats {options.repeats}` in
{time.perf_counter() - start:.0f} s. To reach: at most 4% of the null splits called shifted (true),
p-values that fall below 0.05 and 0.5 as often as that, and every planted shift found.

| sides | records | splits | true | false | null | AUROC | p <= 0.05 | p <= 0.5 | needed a side |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{line("one source, fair coins", options.size, null)}
{line("non-members reworded", options.size, found)}
"""
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "blind.md").write_text(page)


if __name__ == "__main__":
    main()
