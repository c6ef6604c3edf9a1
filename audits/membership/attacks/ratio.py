"""The denominator of attacks that divide by a record's own negative log-likelihood."""

from torch import Tensor

from audits.scoring.token_statistics import TokenStatistics

LOWEST_NLL = 0.01
"""Floor in nats per token, a mean probability of 0.99: below it a quotient would measure how near
to zero a memorised record's loss got, not how the other text compares."""


def nll(table: TokenStatistics) -> Tensor:
    """Mean negative log-likelihood of each record, [B] float64, nats per token."""
    return -table.mean_logp


def floored_nll(table: TokenStatistics) -> Tensor:
    """The same, at least :data:`LOWEST_NLL`."""
    return nll(table).clamp(min=LOWEST_NLL)
