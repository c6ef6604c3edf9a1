"""Exact match: whether greedy decoding continues a response word for word."""

import numpy as np
from numpy.typing import NDArray

from audits.memorization.greedy_continuation import GreedyContinuation
from audits.memorization.metrics.base import Summary
from audits.memorization.metrics.suffix import SuffixMetric


class ExactMatch(SuffixMetric):
    """1 where every token of the suffix is the greedy one, 0 elsewhere.

    Carlini 2023, "Quantifying Memorization Across Neural Language Models", section 3. Greedy
    decoding writes the suffix exactly when each of its tokens is the greedy choice after the true
    tokens before it, so nothing is generated. A short or formulaic answer matches without having
    been memorized: the figure means something only beside those of records nobody trained on.
    """

    name = "exact_match"

    def record_value(self, continuation: GreedyContinuation) -> float:
        """Returns 1 or 0."""
        request = self.request(continuation.record)
        mismatch = continuation.first_mismatch(request.prefix_tokens)
        return float(mismatch >= request.prefix_tokens + request.tokens)

    def summaries(self, values: NDArray[np.float64]) -> list[Summary]:
        """Returns the share of records."""
        return [Summary("exact_match_rate", values)]
