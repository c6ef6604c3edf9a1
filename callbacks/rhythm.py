"""How often a run audits itself."""

from lightning.pytorch import Callback, Trainer

from common.errors import UserError


class AuditRhythm(Callback):
    """The rhythm of those audits of a run that have none of their own.

    A validation is cheap, and what follows the development loss needs many; an audit is not. So a
    recipe says how many validations lie between two audits, whatever audits are laid over it.

    Args:
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that.

    Raises:
        UserError: It is negative.
    """

    def __init__(self, every_n_validations: int = 1) -> None:
        check_rhythm("audits.every_n_validations", every_n_validations)
        self.every_n_validations = every_n_validations


def audit_rhythm(trainer: Trainer) -> int:
    """Returns how many validations lie between two audits of the trainer's run; 0: all."""
    for callback in getattr(trainer, "callbacks", []):
        if isinstance(callback, AuditRhythm):
            return callback.every_n_validations
    return AuditRhythm().every_n_validations


def check_rhythm(option: str, every_n_validations: int) -> None:
    """Refuses a negative number of validations.

    Raises:
        UserError: Naming the option.
    """
    if every_n_validations < 0:
        raise UserError(f"{option} is {every_n_validations}: give 0 or more")
