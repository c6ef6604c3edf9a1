"""The tokens of a record under the audited model and under a reference, side by side."""

import torch
from torch import Tensor

from audits.membership.measurements import Scored
from audits.membership.view import AuditView
from audits.scoring.token_statistics import TokenStatistics
from common.errors import UserError


def same_tokenizer(own: TokenStatistics, other: TokenStatistics) -> bool:
    """Tables without a key come from one run, which has one tokenizer."""
    if own.key is None or other.key is None:
        return True
    return own.key.tokenizer == other.key.tokenizer


def require_same_tokens(own: TokenStatistics, other: TokenStatistics) -> None:
    """Refuses two tables of one tokenizer that are not of the same tokens.

    Raises:
        ValueError: If they are not.
    """
    if not torch.equal(own.offsets, other.offsets):
        raise ValueError("the reference scored other tokens than the audited model")


def other_tokens(attack: str, reference: str) -> UserError:
    """Returns the error of an attack whose reference has another tokenizer."""
    return UserError(
        f"attack {attack} compares token by token, and the reference {reference!r} has another "
        "tokenizer than the audited model: name one that shares it, or take the attack reference, "
        "which compares per byte"
    )


def token_by_token(
    view: AuditView, reference: str, attack: str
) -> tuple[TokenStatistics, TokenStatistics]:
    """Returns the statistics of the same tokens under the audited model and under a reference.

    Args:
        view: The records.
        reference: Name of the reference.
        attack: Whose id an error names.

    Raises:
        UserError: If the view has no such reference, or one with another tokenizer.
        ValueError: If two tables that should be of the same tokens are not.
    """
    own, other = view.statistics, view.tokens(Scored(model=reference))
    if not same_tokenizer(own, other):
        raise other_tokens(attack, reference)
    require_same_tokens(own, other)
    return own, other


def shifts(own: TokenStatistics, other: TokenStatistics) -> Tensor:
    """Returns by how much each token is likelier than under the reference, [n] float64, nats."""
    return own.logp.double() - other.logp.double()
