"""The memorization audit: what the model writes of its records by itself, with every validation."""

from audits.context import Measurements, require_distinct
from audits.memorization.audit import audit_memorization, check_memorization, default_metrics
from audits.memorization.metrics import MemorizationMetric
from audits.rows import Audit
from callbacks.audit import AuditCallback
from callbacks.run import RunContext, private_folder


class MemorizationAudit(AuditCallback):
    """Asks how much of a record the model writes by itself, given its prompt.

    A population's figure never stands alone: whatever a model writes of records that it was
    trained on, it may write of others too, because they are short or say what anyone would.

    Args:
        metrics: The metrics; all of them share one forward pass and what is generated. None takes
            token accuracy, extraction strength, near matches, and exact matches and
            (n, p)-extraction after 0, 10 and 25 response tokens.
        populations: Populations whose records count as members, each against its non-members:
            private (an external model's: external), public; None takes the data's members.
        baselines: Populations that stand beside them as further non-members. None takes never where
            the data have it; an external model's have not, and a row then says what that leaves
            open.
        keep_continuations: Keeps, in the run's private folder, what the model wrote in place of its
            members' responses at the last audit; `kd-study report --reveal` shows the worst.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that;
            None, as the run's other audits (``audits.every_n_validations``).
        max_records: Most records of a population.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
    """

    audit = Audit.memorization

    def __init__(
        self,
        metrics: list[MemorizationMetric] | None = None,
        populations: list[str] | None = None,
        baselines: list[str] | None = None,
        keep_continuations: bool = True,
        every_n_validations: int | None = None,
        max_records: int | None = None,
        batch_size: int = 64,
        max_batch_tokens: int = 8192,
    ) -> None:
        super().__init__(every_n_validations, max_records, batch_size, max_batch_tokens)
        self.metrics = default_metrics() if metrics is None else metrics
        require_distinct("metrics", self.metrics)
        self.populations = populations
        self.baselines = baselines
        self.keep_continuations = keep_continuations

    def check(self, context: RunContext) -> None:
        """Refuses populations that are not there."""
        check_memorization(self.audit_context(context), self.populations, self.baselines)

    def measure(self, context: RunContext) -> Measurements:
        """Judges every population and returns rows, record by record and in sum, and curves."""
        folder = private_folder(context.trainer) if self.keep_continuations else None
        return audit_memorization(
            self.audit_context(context), self.metrics, self.populations, self.baselines, folder
        )
