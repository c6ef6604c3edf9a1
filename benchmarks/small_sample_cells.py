"""Settings of `benchmarks.simulate_intervals` in which few records or clusters carry the figure."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from audits.statistics import auroc, paired_difference, swap_estimate
from audits.statistics.conditional import TaughtRecords, difference_in_differences
from audits.statistics.means import UtilityEstimate, gap, ratio_interval, share_interval
from audits.statistics.relative_leakage import relative_leakage
from benchmarks.interval_cells import (
    CONSERVATIVE,
    EXTREME,
    ONE_SIDED,
    Cell,
    Outcome,
    Rng,
    correlated,
    shift,
)

SIZES = (50, 170, 1000, 2000)
TINY = 1e-9
Values = Callable[[Rng, int], np.ndarray]


def sparse(share: float) -> Values:
    """Nearly all records at 0, some at 1: extraction probabilities."""
    return lambda rng, n: np.where(rng.random(n) < share, 1.0, TINY)


MEANS: tuple[tuple[str, float, Values], ...] = (
    ("0.5% of records at 1, the rest at 1e-9", 0.005 + 0.995 * TINY, sparse(0.005)),
    ("5% of records at 1, the rest at 1e-9", 0.05 + 0.95 * TINY, sparse(0.05)),
    ("Beta(0.05, 2), most near 0", 0.05 / 2.05, lambda rng, n: rng.beta(0.05, 2.0, n)),
    ("token accuracies, Beta(1.2, 2.2)", 1.2 / 3.4, lambda rng, n: rng.beta(1.2, 2.2, n)),
)
EXCESSES: tuple[tuple[str, float, Values], ...] = (
    ("0.5% of records rise by 1", 0.005, lambda rng, n: (rng.random(n) < 0.005) * 1.0),
    ("5% of records rise by 0.5", 0.025, lambda rng, n: (rng.random(n) < 0.05) * 0.5),
    ("normal, SD 0.1", 0.02, lambda rng, n: np.clip(rng.normal(0.02, 0.1, n), -1.0, 1.0)),
)


def outcome(truth: float, found: UtilityEstimate, kind: str) -> Outcome:
    """An estimate without bounds excludes nothing."""
    lower = -np.inf if found.lower is None else found.lower
    return truth, lower, np.inf if found.upper is None else found.upper, kind


def clusters_of(rng: Rng, n: int, kind: str) -> np.ndarray:
    """Cluster of each of n records: fours, or sizes by Zipf's law, none above a quarter of all."""
    if kind == "of 4":
        return np.arange(n) // 4
    return np.repeat(np.arange(n), np.minimum(rng.zipf(2.0, size=n), n // 4))[:n]


def bounded_cells() -> Iterator[Cell]:
    """Means of numbers in [0, 1], and of their differences, over records and over clusters."""
    for statistic, low, settings in (("mean", 0.0, MEANS), ("mean excess", -1.0, EXCESSES)):
        for setting, truth, values in settings:

            def draw(
                rng: Rng, n: int, values: Values = values, truth: float = truth, low: float = low
            ) -> Outcome:
                return outcome(truth, share_interval(values(rng, n), low=low), "bounded mean")

            def clustered(
                rng: Rng, kind: str, values: Values = values, truth: float = truth, low: float = low
            ) -> Outcome:
                # A record is a copy of its cluster's in half of the cases.
                ids = clusters_of(rng, 200, kind)
                own = np.where(rng.random(200) < 0.5, values(rng, 200)[ids], values(rng, 200))
                return outcome(truth, share_interval(own, ids.tolist(), low=low), "bounded mean")

            for n in SIZES:
                yield Cell(statistic, setting, n, lambda rng, n=n, f=draw: f(rng, n), CONSERVATIVE)
            for kind in ("of 4", "by Zipf"):
                yield Cell(
                    f"{statistic}, clusters",
                    f"{setting}; clusters {kind}",
                    200,
                    lambda rng, kind=kind, f=clustered: f(rng, kind),
                    CONSERVATIVE,
                )


def gap_cells() -> Iterator[Cell]:
    """Members minus non-members, rare ones on one side or both."""
    for inside, outside in ((0.005, 0.005), (0.05, 0.005)):
        for n in SIZES[:3]:

            def draw(
                rng: Rng, n: int = n, shares: tuple[float, float] = (inside, outside)
            ) -> Outcome:
                sides = [share_interval(sparse(share)(rng, n)) for share in shares]
                truth = (shares[0] - shares[1]) * (1.0 - TINY)
                return outcome(truth, gap(*sides), "recovered variance")

            yield Cell("gap", f"{inside:.1%} against {outside:.1%} at 1", n, draw, CONSERVATIVE)


def inheritance_cells() -> Iterator[Cell]:
    """No inheritance: how often the lower bound of the difference-in-differences exceeds 0."""
    for n_private, n_never in ((20, 100), (50, 20), (50, 50), (100, 20), (100, 60), (300, 300)):
        for setting, _, values in EXCESSES:

            def draw(
                rng: Rng, sides: tuple[int, int] = (n_private, n_never), values: Values = values
            ) -> Outcome:
                private, never = (TaughtRecords(values(rng, n), np.ones(n)) for n in sides)
                found = difference_in_differences(private, never, 0.5)
                lower = -np.inf if found.lower is None else found.lower
                return 0.0, lower, np.inf, "lower bound alone"

            yield Cell(
                "difference_in_differences",
                f"{setting} on both sides, {n_private} private against {n_never} never seen",
                n_private,
                draw,
                ONE_SIDED,
            )


def ratio_cells() -> Iterator[Cell]:
    """A student's leakage as a share of its anchor's, scores correlated over records."""
    for n in (50, 200):
        for area, anchor in ((0.6, 0.7), (0.8, 0.95), (0.99, 0.999), (0.999, 0.9999)):

            def draw(rng: Rng, n: int = n, areas: tuple[float, float] = (area, anchor)) -> Outcome:
                (ax, bx), (ay, by) = (correlated(rng, n, 0.6) for _ in range(2))
                found = relative_leakage((ax + shift(areas[0]), bx + shift(areas[1])), (ay, by))
                truth = (areas[0] - 0.5) / (areas[1] - 0.5)
                return outcome(truth, found, "recovered variance")

            target = EXTREME if area > 0.99 else CONSERVATIVE
            yield Cell("relative_leakage", f"AUROC {area} / {anchor}", n, draw, target)


def skewed_cells() -> Iterator[Cell]:
    """200 records a side in clusters whose sizes follow Zipf's law, alike by half."""

    def scores(rng: Rng, ids: np.ndarray) -> np.ndarray:
        return 0.5**0.5 * (rng.normal(size=ids.size)[ids] + rng.normal(size=ids.size))

    for area in (0.5, 0.7, 0.95):

        def draw(rng: Rng, statistic: str, area: float = area) -> Outcome:
            ours, theirs = (clusters_of(rng, 200, "by Zipf") for _ in range(2))
            ids = {"member_clusters": ours, "nonmember_clusters": theirs + 200}
            (ax, bx), (ay, by) = ([scores(rng, side) for _ in "ab"] for side in (ours, theirs))
            if statistic == "auroc":
                alone = auroc(ax + shift(area), ay, **ids)
                return area, alone.lower, alone.upper, "Obuchowski"
            compare = paired_difference if statistic == "paired_difference" else swap_estimate
            found = compare(ax + shift(area), ay, bx + shift(area), by, **ids)
            truth = 0.0 if statistic == "paired_difference" else 0.5
            return truth, found.lower, found.upper, "recovered variance"

        for statistic in ("auroc", "paired_difference", "swap_estimate"):
            yield Cell(
                f"{statistic}, clusters",
                f"clusters by Zipf, AUROC {area}",
                200,
                lambda rng, statistic=statistic, f=draw: f(rng, statistic),
                CONSERVATIVE,
            )

    def mean(rng: Rng) -> Outcome:
        ids = clusters_of(rng, 200, "by Zipf")
        found = ratio_interval(scores(rng, ids), np.ones(200), ids.tolist())
        return outcome(0.0, found, "t")

    def weighted(rng: Rng) -> Outcome:
        weights = rng.zipf(2.0, size=200).clip(max=50).astype(float)
        found = ratio_interval(weights * stats.norm.rvs(size=200, random_state=rng), weights)
        return outcome(0.0, found, "t")

    yield Cell("ratio, clusters", "clusters by Zipf, normal", 200, mean, CONSERVATIVE)
    yield Cell("ratio, clusters", "weights by Zipf, normal", 200, weighted, CONSERVATIVE)


def small_sample_cells() -> list[Cell]:
    """Every setting, in the order of the report."""
    kinds = (skewed_cells, bounded_cells, gap_cells, inheritance_cells, ratio_cells)
    return [cell for kind in kinds for cell in kind()]
