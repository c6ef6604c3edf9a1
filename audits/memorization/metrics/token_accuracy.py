"""Token accuracy: how many of the first response tokens greedy decoding writes."""

import numpy as np
from numpy.typing import NDArray

from audits.memorization.greedy_continuation import GreedyContinuation, Request, real_tokens
from audits.memorization.metrics.base import MemorizationMetric, Summary
from common.options import require_at_least
from datamodules.encoding import EncodedRecord


class TokenAccuracy(MemorizationMetric):
    """Share of the first real response tokens that greedy decoding writes at their places.

    "Membership and Memorization in LLM Knowledge Distillation" (arXiv 2508.07054), its measure of
    memorization. Judged are the first min(tokens, length) tokens without eos; what the model
    writes after it ended is nothing, so no padding is ever compared. A population's figure is the
    mean over records of their own shares. (Published: the mean over all cells of a padded table.)

    Args:
        tokens: Most tokens of a record that are judged.
    """

    name = "token_accuracy"

    def __init__(self, tokens: int = 32) -> None:
        require_at_least(1, f"metric {self.name}: ", tokens=tokens)
        self.tokens = tokens
        self.params = {"tokens": self.tokens}
        edges = {1, max(1, tokens // 4), max(1, tokens // 2), tokens}
        self.length_edges = tuple(sorted(edges))

    def judged_tokens(self, record: EncodedRecord) -> int:
        """Returns min(tokens, length), eos excluded."""
        return min(self.tokens, real_tokens(record))

    def requests(self, record: EncodedRecord) -> tuple[Request, ...]:
        """Asks for as much as is judged, from the prompt alone."""
        return (Request(0, self.judged_tokens(record)),)

    def record_value(self, continuation: GreedyContinuation) -> float:
        """Returns the share, in [0, 1]."""
        judged = self.judged_tokens(continuation.record)
        written = continuation.greedy(Request(0, judged))
        pairs = zip(written, continuation.record.response_ids[:judged], strict=False)
        return sum(own == true for own, true in pairs) / judged

    def summaries(self, values: NDArray[np.float64]) -> list[Summary]:
        """Returns the mean."""
        return [Summary("token_accuracy", values)]
