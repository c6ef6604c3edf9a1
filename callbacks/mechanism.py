"""Writes beside a run's results what of its technique's mechanism ran."""

from audits.context import Measurements
from audits.mechanism import AUDIT, NAME
from audits.rows import ResultRow
from callbacks.audit import AuditCallback
from callbacks.run import RunContext
from kdmodules.student import StudentModule


class MechanismRecord(AuditCallback):
    """Adds to the results of a student what its response source did, at the last validation.

    A technique whose response source follows the run (a threshold on the development loss, rounds
    of rollouts) is known by what its source did and not by its name. One row for each figure of
    :meth:`ResponseSource.mechanism`, and with them, where there is a warm-up, one for its share of
    the updates; parameters name the source and the objective. Other models, and sources that do as
    they are configured, get no rows.
    """

    audit = AUDIT

    def __init__(self) -> None:
        super().__init__(every_n_validations=0)

    def measure(self, context: RunContext) -> Measurements:
        """Returns the rows of a student that has trained; no scores."""
        module = context.module
        if not isinstance(module, StudentModule) or not context.step:
            return Measurements()
        params = {
            "objective": type(module.kd_loss).__name__,
            "source": type(module.responses).__name__,
        }
        figures = module.responses.mechanism()
        warmup = module.optimizer.warmup_steps
        if figures and warmup:
            figures["warmup_share"] = min(warmup / context.step, 1.0)
        return Measurements(
            results=[
                ResultRow(name=NAME, metric=metric, value=value, params=params)
                for metric, value in figures.items()
            ]
        )
