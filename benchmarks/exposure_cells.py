"""Settings of `benchmarks.simulate_intervals` for the test that canaries were never met."""

from collections.abc import Callable, Iterator
from math import inf

import numpy as np

from audits.memorization.exposure import exact_exposure, mean_exposure
from benchmarks.interval_cells import Cell, Outcome, Rng

KEEPS_5_PERCENT = (0.935, 1.0)
"""At least 0.95, less two standard errors of 1,000 draws."""

N_CANARIES, N_SECRETS = 5, 500


def exposure_cells() -> Iterator[Cell]:
    """Canaries that training never touched, whose secrets' likelihoods have tails of three kinds.

    The bound is 1 where the test says at 5% that they were met, 0 where it does not; the truth is
    0, so that coverage is the share of right answers.
    """
    kinds: dict[str, Callable[[Rng], np.ndarray]] = {
        "normal": lambda rng: rng.normal(size=N_SECRETS),
        "t with 4 degrees of freedom": lambda rng: rng.standard_t(4, size=N_SECRETS),
        "minus exponential": lambda rng: -rng.exponential(size=N_SECRETS),
        "ten values": lambda rng: rng.integers(10, size=N_SECRETS).astype(float),
    }
    for name, scores in kinds.items():

        def tested(rng: Rng, scores: Callable[[Rng], np.ndarray] = scores) -> Outcome:
            canaries = [scores(rng) for _ in range(N_CANARIES)]
            exposures = [exact_exposure(own[0], own[1:]) for own in canaries]
            found = mean_exposure(exposures, [N_SECRETS] * N_CANARIES)
            return 0.0, float(found.p_value <= 0.05), inf, "ranks, Fisher"

        yield Cell("exposure, p-value", name, N_CANARIES, tested, KEEPS_5_PERCENT)
