"""Perplexity per token of reference responses, from token log-probabilities, with an interval."""

import math
from collections.abc import Hashable, Sequence

from numpy.typing import ArrayLike

from audits.statistics.means import UtilityEstimate, ratio_interval


def perplexity(
    logp_sums_nats: ArrayLike,
    n_tokens: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
) -> UtilityEstimate:
    """Estimate exp of the mean negative log-likelihood per scored token.

    The mean is over *tokens* (sum over records / sum of counts), as in training; its interval is
    over records, or clusters of them, since the tokens of one response are not independent. It is
    taken in nats and exponentiated, so it is never negative. The unit is tokens of the model's own
    tokenizer: figures compare under one vocabulary only.

    Args:
        logp_sums_nats: Sum of the scored tokens' log-probabilities per record, [B].
        n_tokens: Scored tokens per record, eos included where it is scored, [B].
        clusters: Each record's cluster; None: each its own.

    Raises:
        ValueError: If there is no record, lengths differ, or a sum is not finite.

    >>> import math
    >>> round(perplexity([-2 * math.log(8), -math.log(8)], [2, 1]).value, 6)
    8.0
    """
    logp = ratio_interval(logp_sums_nats, n_tokens, clusters)
    return UtilityEstimate(
        _exp(-logp.value),
        None if logp.upper is None else _exp(-logp.upper),
        None if logp.lower is None else _exp(-logp.lower),
        logp.n,
    )


def _exp(nats: float) -> float:
    # A diverged model's perplexity is infinite in a double; math.exp would raise instead.
    return math.exp(nats) if nats < 709 else math.inf
