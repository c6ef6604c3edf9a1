"""Rows that tell what extraction of a run's records its counterfactual and control do not explain.

A short or formulaic answer extracts from a model that never met it, so every rate stands beside
that of a run which differs in nothing but the records.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from studies.compare.comparisons import Clusters, Row
from studies.compare.memorization import excess_rows, mean_excesses, read_accuracies
from studies.plan.cells import Cell

EXCESS_METRICS = {
    "extraction_strength": "extraction_strength_excess",
    "exact_match": "exact_match_rate_excess",
    "near_match": "similarity_excess",
    "n_p_extraction": "extraction_probability_excess",
}
"""Metric of the rows by the measure that they compare."""


def extraction_rows(
    done: Sequence[Cell],
    results: pa.Table,
    memorization: pd.DataFrame,
    clusters_of: Clusters | None = None,
) -> Iterator[Row]:
    """Yields each measure's mean excess over the other run of a pair, by population.

    Args:
        done: The finished cells.
        results: Their results, which give the identity columns.
        memorization: Their memorization table.
        clusters_of: Number of each record's cluster, by cell; None asks `record_clusters`.
    """
    shares = memorization.assign(value=_shares(memorization))
    for name, metric in EXCESS_METRICS.items():
        for measure in read_accuracies(done, results, shares, name, clusters_of):
            for cell, other in measure.pairs():
                means = mean_excesses(measure, cell, other)
                yield from excess_rows(measure, cell, other, means, name, metric)


def _shares(memorization: pd.DataFrame) -> pd.Series:
    """Returns values in [0, 1]: (n, p)-extraction is kept as log p, null where p is 0."""
    logs = memorization["name"] == "n_p_extraction"
    values = memorization["value"]
    probabilities = np.exp(values.clip(upper=0.0).fillna(-np.inf).to_numpy(dtype=np.float64))
    return values.where(~logs, pd.Series(probabilities, index=values.index))
