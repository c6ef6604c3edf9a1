"""(n, p)-discoverable extraction: how many samples it takes to draw a response word for word."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audits.memorization.greedy_continuation import GreedyContinuation
from audits.memorization.metrics.base import Summary
from audits.memorization.metrics.suffix import SuffixMetric
from common.errors import UserError
from kdmodules.sampling.sampler import SamplingSettings

DEFAULT_PROBABILITIES = (0.1, 0.5, 0.9)
DEFAULT_SAMPLES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


class NPExtraction(SuffixMetric):
    """Log-probability, in nats, with which one sample after prompt and prefix is the suffix.

    Hayes 2024, "Measuring memorization in language models via probabilistic extraction": a suffix
    of sampling probability p_z is extractable at (n, p) where 1 - (1 - p_z)^n >= p. p_z is the
    product over tokens of what temperature, top-k and top-p leave of their probability.
    Nothing is sampled: teacher forcing gives p_z exactly.

    Args:
        prefix_tokens: Response tokens that are given after the prompt.
        suffix_tokens: Most tokens of the suffix.
        fewest_tokens: A record whose suffix has fewer is skipped.
        temperature: Divides the logits.
        top_k: Sampling keeps this many of the likeliest tokens; 0 keeps all.
        top_p: Sampling keeps the likeliest tokens up to this mass; 1 keeps all.
        probabilities: The p of the rates.
        samples: The n of the rates.

    Raises:
        UserError: If a number is out of range.
    """

    name = "n_p_extraction"

    def __init__(
        self,
        prefix_tokens: int = 0,
        suffix_tokens: int = 50,
        fewest_tokens: int = 10,
        temperature: float = 1.0,
        top_k: int = 40,
        top_p: float = 1.0,
        probabilities: Sequence[float] = DEFAULT_PROBABILITIES,
        samples: Sequence[int] = DEFAULT_SAMPLES,
    ) -> None:
        super().__init__(prefix_tokens, suffix_tokens, fewest_tokens)
        self.sampling = SamplingSettings(
            max_new_tokens=suffix_tokens, temperature=temperature, top_k=top_k, top_p=top_p
        )
        if not all(0 < p < 1 for p in probabilities):
            raise UserError(f"metric {self.name}: probabilities must lie between 0 and 1")
        if not all(n >= 1 for n in samples):
            raise UserError(f"metric {self.name}: samples must be at least 1")
        self.probabilities = tuple(probabilities)
        self.samples = tuple(samples)
        sampling = self.sampling
        scheme = {"temperature": sampling.temperature, "top_k": sampling.top_k}
        self.params = {**self.params, **scheme, "top_p": sampling.top_p}
        self.scheme = self.sampling

    def record_value(self, continuation: GreedyContinuation) -> float:
        """Returns log p_z in nats; -inf where the scheme never draws the suffix."""
        request = self.request(continuation.record)
        last = request.prefix_tokens + request.tokens
        return math.fsum(continuation.forced.logp[self.sampling][request.prefix_tokens : last])

    def summaries(self, values: NDArray[np.float64]) -> list[Summary]:
        """Returns the mean of p_z, and for each p and n the share of records extractable."""
        found = [Summary("extraction_probability", np.exp(np.minimum(values, 0.0)))]
        for p in self.probabilities:
            needed = samples_needed(values, p)
            found += [
                Summary(
                    "extraction_rate",
                    (needed <= n).astype(np.float64),
                    params={"p": p, "n": n},
                    detailed=False,
                )
                for n in self.samples
            ]
        return found


def samples_needed(log_probabilities: ArrayLike, p: float) -> NDArray[np.float64]:
    """Returns the smallest n with 1 - (1 - p_z)^n >= p, [B] float64 whole numbers or inf.

    Args:
        log_probabilities: log p_z in nats, [B], at most 0; -inf is never drawn.
        p: Probability of at least one success, between 0 and 1.

    >>> samples_needed([0.0, -0.6931471805599453, -float("inf")], 0.9).tolist()
    [1.0, 4.0, inf]
    """
    logs = np.minimum(np.asarray(log_probabilities, dtype=np.float64), 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        bound = math.log1p(-p) / np.log1p(-np.exp(logs))
    # A bound that is whole must not be rounded up by the last bit of its quotient.
    return np.maximum(1.0, np.ceil(np.abs(bound) * (1.0 - 1e-12)))
