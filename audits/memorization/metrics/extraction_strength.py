"""Extraction strength: how short a part of the response gives away all that follows."""

import numpy as np
from numpy.typing import NDArray

from audits.memorization.greedy_continuation import GreedyContinuation, real_tokens
from audits.memorization.metrics.base import MemorizationMetric, Summary
from datamodules.encoding import EncodedRecord

_LENGTH_EDGES = (1, 10, 25, 50)


class ExtractionStrength(MemorizationMetric):
    """1 - k/n, with k the shortest prefix of the response after which every greedy token is right.

    As in open-unlearning (Dorna 2025), over the n tokens without eos: 1 where the prompt alone
    gives everything away, 0 where even the last token is wrong.
    """

    name = "extraction_strength"
    length_edges = _LENGTH_EDGES

    def judged_tokens(self, record: EncodedRecord) -> int:
        """Returns the length, eos excluded."""
        return real_tokens(record)

    def record_value(self, continuation: GreedyContinuation) -> float:
        """Returns the strength, in [0, 1]."""
        length = continuation.real_tokens
        wrong = np.flatnonzero(~continuation.matches[:length])
        shortest = int(wrong[-1]) + 1 if wrong.size else 0
        return 1.0 - shortest / length

    def summaries(self, values: NDArray[np.float64]) -> list[Summary]:
        """Returns the mean."""
        return [Summary("extraction_strength", values)]
