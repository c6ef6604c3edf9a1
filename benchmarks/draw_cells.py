"""Settings of `benchmarks.simulate_intervals` for scores that are means over few noise draws."""

from collections.abc import Iterator

import numpy as np

from audits.statistics.reliability import auroc_over_draws
from benchmarks.interval_cells import NOMINAL, Cell, Outcome, Rng, shift

FEW = {3: (0.86, 0.97), 5: (0.88, 0.97), 10: NOMINAL}
"""What a number of draws has to reach: too few to tell their own spread cover too rarely."""


def draw_cells() -> Iterator[Cell]:
    """Draws that shift members against non-members, as weight noise does: by skewed amounts that
    all records share, small and large against what the records alone make uncertain.
    """
    for draws, target in FEW.items():
        for area in (0.6, 0.8):
            for spread in (0.15, 0.4):

                def shifted(
                    rng: Rng, draws: int = draws, area: float = area, spread: float = spread
                ) -> Outcome:
                    common = spread * (rng.exponential(size=draws) - 1.0)
                    members = (rng.normal(size=200) + shift(area))[:, None] + common
                    others = np.repeat(rng.normal(size=200)[:, None], draws, axis=1)
                    found = auroc_over_draws(members, others)
                    return area, found.lower, found.upper, "logit, jackknife over draws"

                setting = f"{draws} draws, shifts of SD {spread}, AUROC {area}"
                yield Cell("auroc over draws", setting, 200, shifted, target)
