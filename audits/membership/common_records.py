"""Scores of several attacks side by side, on the records that all of them have."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audits.membership.metrics import ScoredRecords


def on_common_records(
    scored: Sequence[ScoredRecords],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns scores [K, n] on the records that all K attacks have, and their clusters [n]."""
    first = scored[0].record_ids
    if all(one.record_ids == first for one in scored[1:]):
        # The usual case, without an index of the records for every attack.
        order = sorted(range(len(first)), key=first.__getitem__)
        return np.array([one.scores[order] for one in scored]), scored[0].clusters[order]
    kept = sorted(set(scored[0].record_ids).intersection(*(one.record_ids for one in scored[1:])))
    places = [{record: i for i, record in enumerate(one.record_ids)} for one in scored]
    table = [
        one.scores[[place[record] for record in kept]]
        for one, place in zip(scored, places, strict=True)
    ]
    clusters = scored[0].clusters[[places[0][record] for record in kept]]
    return np.array(table, dtype=np.float64).reshape(len(scored), len(kept)), clusters
