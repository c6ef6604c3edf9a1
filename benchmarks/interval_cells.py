"""The settings of `benchmarks.simulate_intervals`: populations whose true figures are known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from audits.statistics import (
    auroc,
    balanced_accuracy,
    epsilon_lower_bound,
    paired_difference,
    replicate_mean,
    swap_estimate,
    tpr_at_fpr,
)

SIZES = (50, 200, 1000)
AUROCS = (0.5, 0.7, 0.95, 0.99, 0.999)
FPRS = (0.1, 0.01, 0.001)
NOMINAL = (0.93, 0.97)
CONSERVATIVE = (0.93, 1.0)
EXTREME = (0.90, 1.0)
ONE_SIDED = (0.95, 1.0)

Rng = np.random.Generator
Outcome = tuple[float, float, float, str]  # truth, lower, upper, kind


@dataclass(frozen=True)
class Cell:
    """One simulated setting and what its coverage should be."""

    statistic: str
    setting: str
    n: int
    draw: Callable[[Rng], Outcome]
    target: tuple[float, float] = NOMINAL
    share_of_draws: float = 1.0


def shift(area: float) -> float:
    """Distance of two unit normals whose AUROC is `area`."""
    return float(stats.norm.ppf(area) * 2**0.5)


def auroc_cells() -> Iterator[Cell]:
    """Shifted normals, and a population in which a share of the members is memorised outright."""
    for n in SIZES:
        for area in AUROCS:
            target = NOMINAL if area <= 0.95 else EXTREME

            def normal(rng: Rng, n: int = n, area: float = area) -> Outcome:
                found = auroc(rng.normal(size=n) + shift(area), rng.normal(size=n))
                return area, found.lower, found.upper, "logit DeLong"

            def memorised(rng: Rng, n: int = n, area: float = area) -> Outcome:
                far = np.where(rng.random(n) < 2.0 * area - 1.0, 100.0, 0.0)
                found = auroc(rng.normal(size=n) + far, rng.normal(size=n))
                return area, found.lower, found.upper, "logit DeLong"

            yield Cell("auroc", f"normal, AUROC {area}", n, normal, target)
            if area > 0.5:
                yield Cell("auroc", f"share memorised, AUROC {area}", n, memorised, target)


def clustered_cells() -> Iterator[Cell]:
    """Clusters of four records that share half of their variance."""
    for n in (200, 1000):
        for area in (0.5, 0.7, 0.95):

            def scores(rng: Rng, n: int, mean: float) -> np.ndarray:
                common = np.repeat(rng.normal(size=n // 4), 4)
                return mean + 0.5**0.5 * (common + rng.normal(size=n))

            def area_draw(rng: Rng, n: int = n, area: float = area) -> Outcome:
                ids = np.arange(n) // 4
                found = auroc(
                    scores(rng, n, shift(area)),
                    scores(rng, n, 0.0),
                    member_clusters=ids,
                    nonmember_clusters=ids + n,
                )
                return area, found.lower, found.upper, "Obuchowski"

            def tpr_draw(rng: Rng, n: int = n, area: float = area) -> Outcome:
                ids = np.arange(n) // 4
                found = tpr_at_fpr(
                    scores(rng, n, shift(area)),
                    scores(rng, n, 0.0),
                    0.1,
                    member_clusters=ids,
                    nonmember_clusters=ids + n,
                    seed=rng,
                )
                truth = float(stats.norm.sf(stats.norm.isf(0.1) - shift(area)))
                return truth, found.lower, found.upper, found.kind

            yield Cell("auroc, clusters", f"clusters of 4, AUROC {area}", n, area_draw)
            yield Cell("tpr_at_fpr, clusters", f"clusters of 4, FPR 0.1, AUROC {area}", n, tpr_draw)


def tpr_cells() -> Iterator[Cell]:
    """TPR at three FPRs; below 1/n nothing is measurable and there is no cell."""
    for n in SIZES:
        for fpr in FPRS:
            for area in AUROCS:
                truth = float(stats.norm.sf(stats.norm.isf(fpr) - shift(area)))

                def draw(
                    rng: Rng, n: int = n, area: float = area, fpr: float = fpr, truth: float = truth
                ) -> Outcome:
                    x = rng.normal(size=n) + shift(area)
                    found = tpr_at_fpr(x, rng.normal(size=n), fpr, seed=rng)
                    return truth, found.lower, found.upper, found.kind

                target = NOMINAL if fpr * n >= 10.0 and area <= 0.95 else CONSERVATIVE
                setting = f"FPR {fpr}, AUROC {area}, TPR {truth:.3f}"
                if fpr * n >= 1.0:
                    yield Cell("tpr_at_fpr", setting, n, draw, target)


def comparison_cells() -> Iterator[Cell]:
    """Differences of two models on the same records, and a swap estimate of unlike sides."""
    for n in SIZES:
        for first, second in ((0.5, 0.5), (0.7, 0.7), (0.9, 0.5), (0.95, 0.9), (0.99, 0.99)):
            for correlation in (0.0, 0.8):

                def draw(
                    rng: Rng,
                    n: int = n,
                    areas: tuple[float, float] = (first, second),
                    correlation: float = correlation,
                ) -> Outcome:
                    (ax, bx), (ay, by) = (correlated(rng, n, correlation) for _ in range(2))
                    found = paired_difference(ax + shift(areas[0]), ay, bx + shift(areas[1]), by)
                    return areas[0] - areas[1], found.lower, found.upper, "recovered variance"

                setting = f"AUROC {first} - {second}, correlation {correlation}"
                target = NOMINAL if first <= 0.95 else EXTREME
                yield Cell("paired_difference", setting, n, draw, target)

        def swapped(rng: Rng, n: int = n) -> Outcome:
            (ax, bx), (ay, by) = (correlated(rng, n, 0.5) for _ in range(2))
            found = swap_estimate(ax + 2.0, ay, bx + 2.0, by)
            return 0.5, found.lower, found.upper, "recovered variance"

        yield Cell("swap_estimate", "no leak, sides 2 SD apart", n, swapped)


def correlated(rng: Rng, n: int, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of n records under two models."""
    first = rng.normal(size=n)
    return first, correlation * first + (1.0 - correlation**2) ** 0.5 * rng.normal(size=n)


def accuracy_cells() -> Iterator[Cell]:
    """Balanced accuracy against its true value at the very threshold that the half has chosen."""
    for n in SIZES:
        for area in (0.5, 0.7, 0.95):

            def draw(rng: Rng, n: int = n, area: float = area) -> Outcome:
                x, y = rng.normal(size=n) + shift(area), rng.normal(size=n)
                key = int(rng.integers(2**31))
                found = balanced_accuracy(x, y, seed=key)
                threshold = chosen_threshold(x, y, key)
                caught, spared = stats.norm.sf(threshold - shift(area)), stats.norm.cdf(threshold)
                return float(caught + spared) / 2.0, found.lower, found.upper, "Newcombe"

            yield Cell("balanced_accuracy", f"normal, AUROC {area}", n, draw)


def chosen_threshold(x: np.ndarray, y: np.ndarray, key: int) -> float:
    """The threshold that `balanced_accuracy` draws for this key, by a plain loop."""
    rng = np.random.default_rng(key)
    x_half, y_half = (side[rng.permutation(side.size) < side.size // 2] for side in (x, y))
    candidates = np.sort(np.concatenate([[-np.inf], x_half, y_half]))
    gains = [np.mean(x_half > each) - np.mean(y_half > each) for each in candidates]
    return float(candidates[int(np.argmax(gains))])


def replicate_cells() -> Iterator[Cell]:
    """Five replicates whose true AUROCs differ; the truth is their mean in the population."""
    spread, mean = 0.15, 0.75
    truth = float(stats.norm.cdf(mean / (2.0 + spread**2) ** 0.5))

    def sample(rng: Rng, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        means = mean + spread * rng.normal(size=5)
        return [(rng.normal(size=n) + each, rng.normal(size=n)) for each in means]

    def by_t(rng: Rng) -> Outcome:
        found = replicate_mean([auroc(x, y).value for x, y in sample(rng, 100)])
        return truth, found.lower, found.upper, "t"

    yield Cell("replicate_mean", "5 replicates, AUROC", 100, by_t)


def epsilon_cells() -> Iterator[Cell]:
    """Randomised response (binary scores) and a Gaussian mechanism at its own epsilon(delta)."""
    for coins in (200, 2000):
        for epsilon in (0.0, 0.5, 1.0, 2.0, 4.0):

            def response(rng: Rng, coins: int = coins, epsilon: float = epsilon) -> Outcome:
                included = rng.random(coins) < 0.5
                kept = rng.random(coins) < 1.0 / (1.0 + np.exp(-epsilon))
                said = np.where(kept, included, ~included).astype(float)
                found = epsilon_lower_bound(said[included], said[~included], seed=rng)
                return epsilon, found.lower, found.upper, "one run"

            def single(rng: Rng, coins: int = coins, epsilon: float = epsilon) -> Outcome:
                included = rng.random(coins) < 0.5
                kept = rng.random(coins) < 1.0 / (1.0 + np.exp(-epsilon))
                said = np.where(kept, included, ~included).astype(float)
                pair = [(coins // 2, coins // 2)]
                found = epsilon_lower_bound(said[included], said[~included], guesses=pair, seed=rng)
                return epsilon, found.lower, found.upper, "one run"

            setting = f"randomised response, epsilon {epsilon}"
            yield Cell("epsilon_lower_bound", f"{setting}, grid", coins, response, ONE_SIDED)
            yield Cell("epsilon_lower_bound", f"{setting}, one pair", coins, single, ONE_SIDED)
        for delta in (1e-5, 1e-3):
            truth = gaussian_epsilon(1.0, delta)

            def gaussian(
                rng: Rng, coins: int = coins, delta: float = delta, truth: float = truth
            ) -> Outcome:
                included = rng.random(coins) < 0.5
                scores = rng.normal(size=coins) + included
                found = epsilon_lower_bound(scores[included], scores[~included], delta, seed=rng)
                return truth, found.lower, found.upper, "one run"

            setting = f"Gaussian, delta {delta}, epsilon {truth:.2f}"
            yield Cell("epsilon_lower_bound", setting, coins, gaussian, ONE_SIDED)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of N(0, 1) against N(mu, 1) at this delta (Balle and Wang 2018, theorem 5)."""

    def excess(epsilon: float) -> float:
        a, b = mu / 2.0 - epsilon / mu, -mu / 2.0 - epsilon / mu
        return float(stats.norm.cdf(a) - np.exp(epsilon) * stats.norm.cdf(b)) - delta

    return float(optimize.brentq(excess, 0.0, 30.0))


def all_cells() -> list[Cell]:
    """Every setting, in the order of the report."""
    kinds = (
        auroc_cells,
        tpr_cells,
        clustered_cells,
        comparison_cells,
        accuracy_cells,
        replicate_cells,
        epsilon_cells,
    )
    return [cell for kind in kinds for cell in kind()]
