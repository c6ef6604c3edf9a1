"""Names against planted records, chance, and a loop over the placebo."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from audits.tail.moderation import moderated
from audits.tail.naming import named_records
from audits.tail.placebo import placebo_statistics
from benchmarks.planted_worlds import planted

RECORDS, NEVER, EXPOSED = 360, 120, 14
SEEDS = 20


def exposed(base: float) -> np.ndarray:
    """4% of the records four standard deviations apart, the others by `base`."""
    return np.where(np.arange(RECORDS) < EXPOSED, 4.0, base)


def named(seed: int, separation: np.ndarray, worlds: int = 16, **noise: float) -> np.ndarray:
    rng = np.random.default_rng([11, seed])
    found = planted(rng, RECORDS, worlds, separation, **noise)
    return named_records(found, planted(rng, NEVER, worlds, **noise))


def test_four_percent_are_named_in_a_weakly_trained_model() -> None:
    # 0.2 standard deviations are an AUROC of 0.556 for everybody else.
    found = np.stack([named(seed, exposed(0.2)) for seed in range(5)])
    assert (found[:, :EXPOSED].mean(axis=1) >= 0.8).all()


def test_few_worlds_name_nobody_where_nothing_is() -> None:
    """A record has four throws in four worlds: counted as 256, they would name in 25% of pools."""
    clean = [named(seed, np.zeros(RECORDS), worlds=4).any() for seed in range(60)]
    assert sum(clean) <= stats.binom.ppf(0.999, 60, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [{}, {"degrees": 4.0}], ids=["normal", "heavy tails"])
def test_false_names_are_as_rare_as_promised(noise: dict[str, float]) -> None:
    found = np.stack([named(seed, exposed(0.0), **noise) for seed in range(SEEDS)])
    false = found[:, EXPOSED:].sum(axis=1) / np.maximum(1, found.sum(axis=1))
    assert false.mean() <= 0.05 + 3.0 * false.std(ddof=1) / SEEDS**0.5
    assert found[:, :EXPOSED].mean() >= 0.8
    clean = [named(seed, np.zeros(RECORDS), **noise).any() for seed in range(SEEDS)]
    # Where nothing is to be found, any name is false: in 5% of the pools.
    assert sum(clean) <= stats.binom.ppf(0.999, SEEDS, 0.05)


def test_few_and_many_worlds() -> None:
    many = named(0, exposed(0.0) / 2.0, worlds=64)
    assert many[:EXPOSED].all()
    # Four throws of 120 clusters: no p-value is below 1 in 481, too many for a handful of names.
    strong = named(0, np.where(np.arange(RECORDS) < 40, 16.0, 0.0), worlds=4)
    assert strong[:40].mean() >= 0.8
    assert many[EXPOSED:].sum() + strong[40:].sum() <= 8


def test_names_follow_from_the_placebo_as_in_a_loop() -> None:
    rng = np.random.default_rng(12)
    found = planted(rng, 40, 12, np.where(np.arange(40) < 8, 3.0, 0.0), duplicates=2)
    null = planted(rng, 30, 12)
    placebo = placebo_statistics(null).tolist()
    p_values = [
        (1 + sum(one >= statistic for one in placebo)) / (1 + len(placebo))
        for statistic in moderated(found.by_cluster()).statistic.tolist()
    ]
    ranked = sorted(p_values)
    most = max((i for i, p in enumerate(ranked, 1) if p <= 0.1 * i / 40), default=0)
    expected = [p <= 0.1 * most / 40 for p in p_values]
    result = named_records(found, null, false_discovery_rate=0.1)
    assert 5 <= sum(expected) < 40
    assert result.tolist() == np.repeat(expected, 2).tolist()


def test_placebo_throws_are_all_there_are_once_and_keyed() -> None:
    null = planted(np.random.default_rng(13), 30, 6, duplicates=3)
    first = placebo_statistics(null, seed=5)
    assert first.size == 2**3 * 30
    assert np.array_equal(first, placebo_statistics(null, seed=5))
    assert not np.array_equal(first, placebo_statistics(null, seed=6))
    # Every throw has its opposite, which turns a cluster's difference round.
    units = null.by_cluster()
    differences = [
        abs(moderated(replace(units, met=units.met ^ turned)).difference[0])
        for turned in (np.zeros((6, 1), bool), np.ones((6, 1), bool))
    ]
    assert differences[0] == pytest.approx(differences[1])
    assert placebo_statistics(planted(np.random.default_rng(13), 30, 20)).size == 256 * 30
    # Of normal scores the placebo is Student's t, whose tail decides.
    large = planted(np.random.default_rng(14), 2_000, 16)
    degrees, many = moderated(large).degrees, placebo_statistics(large)
    for share in (0.01, 0.001):
        assert (many >= stats.t.isf(share, degrees)).mean() == pytest.approx(share, rel=0.25)


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(15)
    found, null = planted(rng, 20, 8), planted(rng, 20, 6)
    with pytest.raises(ValueError, match="4 pairs of worlds, but 3 of the placebo"):
        named_records(found, null)
    with pytest.raises(ValueError, match="false_discovery_rate"):
        named_records(found, found, false_discovery_rate=1.0)
