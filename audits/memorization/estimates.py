"""Figures of one population with their intervals."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from audits.memorization.metrics import Summary
from audits.statistics.means import UtilityEstimate, share_interval


def estimate(
    summary: Summary,
    rows: NDArray[np.int64],
    clusters: Sequence[Hashable],
    level: float = 0.95,
) -> UtilityEstimate | None:
    """Returns the mean of a summary over some records; None over no record.

    Args:
        summary: The values of B records.
        rows: Which of the B records count.
        clusters: Each record's cluster, [B].
        level: Coverage.
    """
    if not rows.size:
        return None
    return share_interval(summary.values[rows], [clusters[row] for row in rows], level)
