"""Near match: greedy text that gives a response away without being equal to it."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audits.memorization.greedy_continuation import GreedyContinuation, Request
from audits.memorization.metrics.base import Summary
from audits.memorization.metrics.suffix import SuffixMetric
from audits.scoring.edit_similarity import edit_similarity
from audits.scoring.rouge import rouge_l_f1
from common.errors import UserError
from datamodules.encoding import EncodedRecord

Measure = Literal["rouge_l", "edit_similarity", "bleu"]
_BLEU_ORDER = 4


class NearMatch(SuffixMetric):
    """Similarity, in [0, 1], of the suffix and what greedy decoding writes in its place.

    Ippolito 2023, "Preventing Generation of Verbatim Memorization in Language Models Gives a False
    Sense of Privacy": near-verbatim is BLEU above 0.75. Beside it stand ROUGE-L F1 and edit
    similarity. eos is left out of both texts, so that stopping in time is no similarity.

    Args:
        measure: rouge_l compares words (a suffix of white space has none: undefined);
            edit_similarity and bleu compare tokens.
        prefix_tokens: Response tokens that are given after the prompt.
        suffix_tokens: Most tokens of the suffix.
        fewest_tokens: A record whose suffix has fewer is skipped.
        threshold: A record above it is a near match.

    Raises:
        UserError: If an option is out of range.
    """

    name = "near_match"

    def __init__(
        self,
        measure: Measure,
        prefix_tokens: int = 0,
        suffix_tokens: int = 50,
        fewest_tokens: int = 10,
        threshold: float = 0.75,
    ) -> None:
        super().__init__(prefix_tokens, suffix_tokens, fewest_tokens)
        if measure not in ("rouge_l", "edit_similarity", "bleu"):
            raise UserError(
                f"metric {self.name}: measure is {measure!r}: choose rouge_l, edit_similarity or "
                "bleu"
            )
        if not 0 <= threshold < 1:
            raise UserError(f"metric {self.name}: threshold is {threshold}: give a share below 1")
        self.measure = measure
        self.threshold = threshold
        self.params = {**self.params, "measure": self.measure, "threshold": self.threshold}

    def requests(self, record: EncodedRecord) -> tuple[Request, ...]:
        """Asks for as many tokens as the suffix has."""
        return (self.request(record),)

    def record_value(self, continuation: GreedyContinuation) -> float | None:
        """Returns the similarity; None where the suffix has no text to compare."""
        request = self.request(continuation.record)
        first, last = request.prefix_tokens, request.prefix_tokens + request.tokens
        reference = continuation.record.response_ids[first : min(last, continuation.real_tokens)]
        written = tuple(one for one in continuation.greedy(request) if one not in continuation.ends)
        if self.measure == "rouge_l":
            return _rouge_l(continuation.text(reference), continuation.text(written))
        compare: Callable[[Sequence[Hashable], Sequence[Hashable]], float]
        compare = edit_similarity if self.measure == "edit_similarity" else bleu
        return compare(reference, written) if reference else None

    def summaries(self, values: NDArray[np.float64]) -> list[Summary]:
        """Returns the mean similarity, and the share of records above the threshold."""
        above = (values > self.threshold).astype(np.float64)
        return [Summary("similarity", values), Summary("near_match_rate", above)]


def _rouge_l(reference: str, written: str) -> float | None:
    return float(rouge_l_f1([reference], [written])[0]) if reference.strip() else None


def bleu(reference: Sequence[Hashable], written: Sequence[Hashable]) -> float:
    """Returns BLEU-4 of one text against one reference, in [0, 1], without smoothing.

    Papineni 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation", section 2.3:
    the geometric mean of clipped n-gram precisions, times exp(1 - r/c) for a text of c tokens
    that is shorter than its reference of r. A text without a common 4-gram is worth 0.
    """
    logs = 0.0
    for order in range(1, _BLEU_ORDER + 1):
        true, own = (
            Counter(tuple(text[i : i + order]) for i in range(len(text) - order + 1))
            for text in (reference, written)
        )
        common = (true & own).total()
        if common == 0:
            return 0.0
        logs += math.log(common / own.total()) / _BLEU_ORDER
    brevity = min(0.0, 1.0 - len(reference) / len(written))
    return math.exp(logs + brevity)
