"""Do attacks with shadow worlds find more than those without? Paired, on the records of one run.

`python -m benchmarks.shadow_attacks RUN` reads the scores of a finished run, such as the teacher of
the study `exposure`, and writes a page into `benchmarks/results`: by how much the TPR of `lira` and
`rmia` exceeds that of `loss` and `reference`, with intervals that hold all at once.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from audits.results import read_table
from common.keys import key
from datamodules.manifest import read_manifest

RESULTS = Path(__file__).parent / "results"
WITH, WITHOUT = ("lira", "rmia"), ("reference", "loss")
FPRS = (0.1, 0.05, 0.01)
DRAWS = 5000
_FALSE_ALARMS = 10.0
"""Expected above the threshold, from which on a TPR is an estimate (`audits.statistics`)."""


def tpr(members: np.ndarray, nonmembers: np.ndarray, fpr: float) -> np.ndarray:
    """TPR [K] of K attacks, each at the lowest threshold with at most this FPR.

    Args:
        members: [K, n] scores.
        nonmembers: [K, m] scores.
        fpr: Allowed share of false accusations.
    """
    allowed = int(fpr * nonmembers.shape[1] + 1e-9)
    thresholds = -np.sort(-nonmembers, axis=1)[:, allowed]
    return np.asarray((members > thresholds[:, None]).mean(axis=1))


def resampled(clusters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places of the records of as many clusters as there are, drawn with replacement."""
    order = np.argsort(clusters, kind="stable")
    _, starts, counts = np.unique(clusters[order], return_index=True, return_counts=True)
    drawn = rng.integers(len(starts), size=len(starts))
    return np.concatenate([order[starts[i] : starts[i] + counts[i]] for i in drawn])


def differences(
    scores: tuple[np.ndarray, np.ndarray],
    clusters: tuple[np.ndarray, np.ndarray],
    pairs: list[tuple[int, int]],
    fpr: float,
    draws: int = DRAWS,
    level: float = 0.95,
) -> list[tuple[float, float, float]]:
    """Difference of the TPRs of each pair of attacks, with intervals that hold at once.

    Records are drawn by cluster within each side, the same for all attacks, and thresholds chosen
    anew in each draw; the half-widths are one quantile of the largest deviation in standard errors.

    Args:
        scores: [K, n] of the members and [K, m] of the others.
        clusters: [n] and [m] clusters.
        pairs: Places of two attacks.
        fpr: Allowed share of false accusations.
        draws: Bootstrap draws.
        level: Of all intervals together.

    Returns:
        Value, lower and upper end of each pair.
    """
    rng = np.random.default_rng(key("shadow attacks", str(fpr)))
    first, second = (np.array(one) for one in zip(*pairs, strict=True))
    rates = tpr(*scores, fpr)
    value = rates[first] - rates[second]
    found = np.empty((draws, len(pairs)))
    for draw in range(draws):
        sides = [s[:, resampled(c, rng)] for s, c in zip(scores, clusters, strict=True)]
        drawn = tpr(*sides, fpr)
        found[draw] = drawn[first] - drawn[second]
    error = found.std(axis=0, ddof=1)
    largest = np.abs((found - found.mean(axis=0)) / np.where(error > 0, error, 1.0)).max(axis=1)
    margin = np.quantile(largest, level) * error
    return list(zip(value, value - margin, value + margin, strict=True))


def read_scores(run: Path) -> tuple[list[str], list[np.ndarray], list[np.ndarray]]:
    """Returns attacks, their scores [K, n] of members and of held-out records, and clusters."""
    table = read_table(run, "scores").to_pandas()
    last = table[(table["step"] == table["step"].max()) & table["block"].isna()]
    cluster = {row.id: row.cluster for row in read_manifest(run / "private" / "manifest.parquet")}
    scores, clusters = [], []
    names = [name for name in (*WITH, *WITHOUT) if name in set(last["name"])]
    for population in ("private", "held_out"):
        own = last[last["population"] == population]
        wide = own.pivot(index="record", columns="name", values="score").dropna()
        scores.append(wide[names].to_numpy().T)
        clusters.append(np.array([key(str(cluster[record])) for record in wide.index]))
    return names, scores, clusters


def page(run: Path) -> str:
    """Returns the page on a finished run."""
    names, (inside, outside), (ours, theirs) = read_scores(run)
    pairs = list(product(WITH, [name for name in WITHOUT if name in names]))
    places = [(names.index(a), names.index(b)) for a, b in pairs]
    lines = []
    for fpr in FPRS:
        rates = dict(zip(names, tpr(inside, outside, fpr), strict=True))
        found = differences((inside, outside), (ours, theirs), places, fpr)
        for (a, b), (value, lower, upper) in zip(pairs, found, strict=True):
            few = (
                "" if fpr * outside.shape[1] >= _FALSE_ALARMS else "rests on few false accusations"
            )
            lines.append(
                f"| {fpr:g} | {a} - {b} | {rates[a]:.3f} - {rates[b]:.3f} "
                f"| {value:+.3f} [{lower:+.3f}, {upper:+.3f}] | {few} |"
            )
    identity = read_table(run, "results").to_pandas().iloc[0]
    return "\n".join(
        [
            "# Attacks with shadow worlds beside attacks without",
            "",
            f"Written by `python -m benchmarks.shadow_attacks` from the run {identity['run']}: "
            f"{inside.shape[1]} private against {outside.shape[1]} held-out records. Differences "
            "of the TPR on the same records, with 95% intervals that hold for all pairs of a rate "
            f"at once: {DRAWS:,} draws of clusters, thresholds chosen anew in each.",
            "",
            "| FPR | pair | TPRs | difference | |",
            "| ---: | --- | --- | ---: | --- |",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Reads a run and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run with these attacks")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the page")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "shadow_attacks.md").write_text(page(options.run))


if __name__ == "__main__":
    main()
