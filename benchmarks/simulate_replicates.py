"""Whether what is said over replicates, techniques and attacks is as rarely wrong as it claims.

`python -m benchmarks.simulate_replicates` writes `benchmarks/results/simulate_replicates.json` and
`.md`: the size of the test that techniques are equal, how often equal rankings look unequal, the
coverage of the headline's interval, and false alarms of "does it leak at all". What each replaced
is simulated beside it, on the same draws.
"""

import argparse
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy import stats

from audits.statistics import auroc, replicate_mean, swap_estimate
from audits.statistics.agreement import kendall_tau, ranking_agreement
from audits.statistics.delong import rank_statistics
from audits.statistics.multiplicity import max_t
from audits.statistics.simultaneous import bonferroni_level, simultaneous_level
from benchmarks.simulate_claims import swaps
from studies.claims.sample import Sample

RESULTS = Path(__file__).parent / "results"
TECHNIQUES = 6
Rng = np.random.Generator
Draw = Callable[[Rng], tuple[bool, bool]]
"""Whether the rule is wrong in one simulated study, and whether what it replaces is."""


@dataclass(frozen=True)
class Scenario:
    """A kind of study in which a rule may be wrong.

    Attributes:
        rule: What is said.
        wrong: What it is to be wrong.
        before: What is simulated beside it.
        what: The truth.
        allowed: How often it may be wrong.
        draw: One study.
        share: Part of the draws that it takes, where one is dear.
    """

    rule: str
    wrong: str
    before: str
    what: str
    allowed: float
    draw: Draw
    share: float = 1.0


def techniques_equal(r: int, spreads: tuple[float, ...]) -> Draw:
    """The F test on equal techniques that vary by `spreads`, with and without Box's degrees."""
    k, names = len(spreads), tuple(str(i) for i in range(len(spreads)))

    def draw(rng: Rng) -> tuple[bool, bool]:
        values = rng.normal(size=(r, 1)) + np.array(spreads) * rng.normal(size=(r, k))
        centred = values.mean(axis=0) - values.mean()
        rest = values - values.mean(axis=1, keepdims=True) - centred
        f = r * (centred @ centred) * (r - 1) / (rest**2).sum()
        plain = stats.f.sf(f, k - 1, (k - 1) * (r - 1))
        return Sample.of_replicates(names, values).p_equal() <= 0.05, bool(plain <= 0.05)

    return draw


def rankings_alike(r: int, noise: tuple[float, float]) -> Draw:
    """Tau below both ceilings where both measures truly rank alike; before, single replicates."""

    def draw(rng: Rng) -> tuple[bool, bool]:
        truth = 0.03 * np.arange(TECHNIQUES)
        x, y = (truth + one * rng.normal(size=(r, TECHNIQUES)) for one in noise)
        found = ranking_agreement(x, y)
        if found.tau is None or found.membership_ceiling is None:
            raise ValueError("continuous figures have no ties")
        ceiling = min(found.membership_ceiling, found.memorization_ceiling or 0.0)
        single = [kendall_tau(a, b) for a, b in zip(x, y, strict=True)]
        return found.tau < ceiling, float(np.mean([one or 0.0 for one in single])) < ceiling

    return draw


def picked_over_replicates(r: int, table: Callable[[Rng, int], np.ndarray]) -> Draw:
    """The interval of the largest mean of equal techniques (truth 0.65); before, its own."""

    def draw(rng: Rng) -> tuple[bool, bool]:
        values = table(rng, r)
        own = values[:, int(values.mean(axis=0).argmax())]
        levels = bonferroni_level(values.shape[1]), 0.95
        both = [replicate_mean(own, level) for level in levels]
        wide, plain = (not one.lower <= 0.65 <= one.upper for one in both)
        return wide, plain

    return draw


def picked_over_records(n: int, shift: float) -> Draw:
    """The same over the records of one replicate, whose techniques' scores are alike in part."""
    truth = float(stats.norm.cdf(2.0 * shift / 2.0**0.5))

    def draw(rng: Rng) -> tuple[bool, bool]:
        common = rng.normal(size=(1, 2 * n))
        runs = 0.8 * common + 0.6 * rng.normal(size=(2 * TECHNIQUES, 2 * n))
        runs[:TECHNIQUES, :n] += 2.0 * shift
        runs[TECHNIQUES:, :n] -= 2.0 * shift
        ranks = rank_statistics(runs[:, :n], runs[:, n:], None, None)
        weights = 0.5 * np.hstack([np.eye(TECHNIQUES), -np.eye(TECHNIQUES)])
        estimates, covariance = weights @ ranks.aurocs, weights @ ranks.covariance @ weights.T
        deviations = np.sqrt(np.diag(covariance))
        level = simultaneous_level(covariance / np.outer(deviations, deviations))
        pair = [runs[int(estimates.argmax()) + add] for add in (0, TECHNIQUES)]
        sides = [side for one in pair for side in (one[:n], one[n:])]
        found = [swap_estimate(*sides, level=one) for one in (level, 0.95)]
        wide, plain = (not one.lower <= truth <= one.upper for one in found)
        return wide, plain

    return draw


def leaks_at_all(k: int, size: int, n: int = 96) -> Draw:
    """Max-T over K attacks on nothing, clusters of `size` alike; before, any interval above 0.5."""

    def draw(rng: Rng) -> tuple[bool, bool]:
        clusters = np.arange(2 * n) // size
        alike = rng.normal(size=2 * n // size)[clusters]
        common = rng.normal(size=2 * n)
        scores = 0.6 * alike + 0.4 * common + 0.7 * rng.normal(size=(k, 2 * n))
        x, y = scores[:, :n], scores[:, n:]
        ids = {"member_clusters": clusters[:n], "nonmember_clusters": clusters[n:]}
        found = max_t(x, y, 199, **ids, seed=int(rng.integers(2**32)))
        lower = [auroc(a, b, **ids).lower for a, b in zip(x, y, strict=True)]
        return bool(found.p_values.min() <= 0.05), max(lower) > 0.5

    return draw


def scenarios() -> Iterator[Scenario]:
    """All of them."""
    yield from _test_scenarios()
    yield from _ranking_scenarios()
    yield from _picked_scenarios()
    for k, size in ((4, 1), (20, 1), (4, 4), (20, 4)):
        yield Scenario(
            "does it leak at all, by max-T",
            "says that it leaks",
            "some attack's interval above 0.5",
            f"nothing leaks, {k} attacks, clusters of {size}",
            0.05,
            leaks_at_all(k, size),
            0.25,
        )


def _test_scenarios() -> Iterator[Scenario]:
    spreads = {
        "all vary alike": (1.0,) * 6,
        "one of six varies 3 times as much": (3.0, *[1.0] * 5),
        "one of six varies 10 times as much": (10.0, *[1.0] * 5),
        "two of six vary 5 times as much": (5.0, 5.0, *[1.0] * 4),
        "one of eight varies 10 times as much": (10.0, *[1.0] * 7),
    }
    for what, own in spreads.items():
        for r in (5, 10):
            yield Scenario(
                "techniques differ, F test with Box's degrees",
                "rejects equality",
                "plain F test",
                f"equal, {what}, R = {r}",
                0.05,
                techniques_equal(r, own),
            )


def _ranking_scenarios() -> Iterator[Scenario]:
    for r in (4, 5, 10):
        for noise in ((0.06, 0.06), (0.03, 0.09)):
            yield Scenario(
                "tau of two rankings, between halves",
                "below both ceilings",
                "mean tau of single replicates",
                f"ranked alike, noise {noise[0]:g} and {noise[1]:g}, R = {r}",
                1.0 / 3.0,
                rankings_alike(r, noise),
                0.25,
            )


def _picked_scenarios() -> Iterator[Scenario]:
    def noise_of_claims(rng: Rng, r: int) -> np.ndarray:
        return swaps(rng, r, np.full(TECHNIQUES, 0.15))

    def apart(rng: Rng, r: int) -> np.ndarray:
        return 0.65 + 0.03 * rng.normal(size=(r, TECHNIQUES))

    def unequal(rng: Rng, r: int) -> np.ndarray:
        return 0.65 + np.array([0.06, *[0.02] * 5]) * rng.normal(size=(r, TECHNIQUES))

    names = ("headline's interval, simultaneous", "misses the truth", "its own 95% interval")
    tables = {
        "noise as in simulate_claims": noise_of_claims,
        "independent noise": apart,
        "one varies 3 times as much": unequal,
    }
    for what, table in tables.items():
        for r in (5, 10):
            draw = picked_over_replicates(r, table)
            yield Scenario(*names, f"six equal techniques, {what}, R = {r}", 0.05, draw)
    for n, shift in ((200, 0.2), (200, 0.6), (1000, 0.2)):
        truth = float(stats.norm.cdf(2.0 * shift / 2.0**0.5))
        what = f"six equal techniques, {truth:.2f}, one replicate of {n} + {n} records"
        yield Scenario(*names, what, 0.05, picked_over_records(n, shift), 0.25)


@dataclass(frozen=True)
class Row:
    """How often a rule was wrong."""

    rule: str
    wrong: str
    before: str
    what: str
    allowed: float
    draws: int
    rate: float
    rate_before: float

    @property
    def limit(self) -> float:
        """What is allowed, and two standard errors of so many draws above it."""
        return self.allowed + 2.0 * (self.allowed * (1.0 - self.allowed) / self.draws) ** 0.5

    @property
    def met(self) -> bool:
        """Whether the rule is wrong no more often than it may be."""
        return self.rate <= self.limit


def simulate(scenario: Scenario, draws: int, seed: int = 0) -> Row:
    """Judges simulated studies of a kind; keyed by its name, whichever others run."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{scenario.rule}{scenario.what}".encode())])
    count = max(20, round(draws * scenario.share))
    found = np.array([scenario.draw(rng) for _ in range(count)], dtype=float)
    texts = (scenario.rule, scenario.wrong, scenario.before, scenario.what)
    rates = found.mean(axis=0)
    return Row(*texts, scenario.allowed, count, float(rates[0]), float(rates[1]))


def page(rows: list[Row], seconds: float) -> str:
    """The tables as Markdown, one for each rule."""
    lines = [
        "# What is said over replicates, techniques and attacks",
        "",
        f"Written by `python -m benchmarks.simulate_replicates` in {seconds:.0f} s.",
        "To reach: wrong no more often than 5%, tau than one in three, and two standard errors of",
        "the draws above that (*allowed*).",
        "*Before* is what the rule replaced, on the same draws.",
    ]
    for rule in dict.fromkeys(row.rule for row in rows):
        own = [row for row in rows if row.rule == rule]
        lines += [
            "",
            f"## {rule[0].upper()}{rule[1:]}",
            "",
            f"Wrong: {own[0].wrong}. Before: {own[0].before}.",
            "",
            "| truth | draws | wrong | before | allowed | met |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
        ]
        lines += [
            f"| {row.what} | {row.draws} | {row.rate:.3f} | {row.rate_before:.3f} "
            f"| {row.limit:.3f} | {'yes' if row.met else 'NO'} |"
            for row in own
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Runs the simulation and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000, help="studies of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    start = time.perf_counter()
    rows = [simulate(one, options.draws) for one in track(list(scenarios()), "studies")]
    seconds = time.perf_counter() - start
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"seconds": seconds, "rows": [asdict(row) | {"met": row.met} for row in rows]}
    (options.out / "simulate_replicates.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "simulate_replicates.md").write_text(page(rows, seconds))


if __name__ == "__main__":
    main()
