"""Checks of numbers that a user gives."""

from common.errors import UserError

__all__ = ["require_at_least", "require_positive", "require_share"]


def require_at_least(least: float, where: str = "", /, **options: float) -> None:
    """Refuses numbers below a bound.

    >>> require_at_least(1, "model.", layers=2)

    Args:
        least: The bound.
        where: What stands before the options' names, such as "model.".
        **options: Numbers by the names of their options.

    Raises:
        UserError: Naming the first that is too small.
    """
    for name, value in options.items():
        if not value >= least:
            raise UserError(f"{where}{name} is {value}: give at least {least:g}")


def require_share(where: str = "", /, **options: float) -> None:
    """Refuses numbers outside [0, 1]; arguments are those of :func:`require_at_least`.

    Raises:
        UserError: Naming the first that is outside.
    """
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise UserError(f"{where}{name} is {value}: give a number from 0 to 1")


def require_positive(where: str = "", /, **options: float) -> None:
    """Refuses numbers that are not finite and above 0, as :func:`require_at_least` does.

    Raises:
        UserError: Naming the first that is not.
    """
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise UserError(f"{where}{name} is {value}: give a positive number")
