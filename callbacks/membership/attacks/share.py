"""The option k of the Min-K% attacks."""

from datamodules.errors import UserError


def check_share(attack: str, k: float) -> float:
    """Returns k.

    Raises:
        UserError: if k is outside (0, 1].
    """
    if not 0 < k <= 1:
        raise UserError(f"attack {attack}: k is a share of tokens in (0, 1], found {k}")
    return k
