"""Confidence of several models in the same records, and which of the models met which record."""

from collections.abc import Sequence

import torch
from torch import Tensor

from audits.membership.measurements import AUDITED, Scored
from audits.membership.view import AuditView, Table
from common.errors import UserError

LEAST_NLL = 1e-9
"""Floor of a record's mean negative log-likelihood, at which its confidence is 1 - 1e-9."""


def mean_log_likelihoods(view: AuditView, models: Sequence[str], records: str = AUDITED) -> Tensor:
    """Returns the mean log-probability of each record's response tokens, [K models, B], nats.

    Tokens are read a shard at a time: what is left is one number per model and record.
    """
    tables = [view.table(Scored(model=model, records=records)) for model in models]
    return torch.stack([_segment_means(table, view.shard_records) for table in tables])


def _segment_means(table: Table, shard_records: int) -> Tensor:
    means = [one.mean_logp for one in table.shards(shard_records)]
    return torch.cat([torch.empty(0, dtype=torch.float64), *means])


def met_matrix(view: AuditView, references: Sequence[str]) -> Tensor:
    """Returns whether the training behind each reference met each record, [K, B] bool."""
    return torch.stack([view.met_by(reference) for reference in references])


def logit_confidence(log_likelihood: Tensor) -> Tensor:
    """Returns log(p / (1 - p)) of p = exp(LL), floored so that it is finite at p = 1.

    >>> round(float(logit_confidence(torch.tensor(0.8).log())), 4)
    1.3863
    """
    capped = log_likelihood.double().clamp(max=-LEAST_NLL)
    return capped - torch.log(-torch.expm1(capped))


def require_references(attack: str, references: Sequence[str]) -> list[str]:
    """Returns the references.

    Raises:
        UserError: If there is none, or one is named twice.
    """
    if not references or len(set(references)) < len(references):
        raise UserError(
            f"attack {attack}: references are {list(references)}: name at least one, each once"
        )
    return list(references)
