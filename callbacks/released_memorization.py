"""The audit of token accuracy as published; off unless a fragment names it."""

from audits.context import Measurements
from audits.memorization.released import ReleasedDecoding, audit_released
from audits.rows import Audit
from callbacks.audit import AuditCallback
from callbacks.run import RunContext

_DEFAULT = ReleasedDecoding()


class ReleasedMemorizationAudit(AuditCallback):
    """Sets `token_accuracy_as_released` of members and non-members beside published figures.

    It is no evidence of anything else: short responses match by the padding behind them, and what
    a ban of n-grams keeps a model from writing counts against it.

    Args:
        decoding: Padding, bans and the number of compared tokens.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that.
        max_records: Most records of a population.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
    """

    audit = Audit.released

    def __init__(
        self,
        decoding: ReleasedDecoding = _DEFAULT,
        every_n_validations: int = 0,
        max_records: int | None = None,
        batch_size: int = 64,
        max_batch_tokens: int = 32_768,
    ) -> None:
        super().__init__(every_n_validations, max_records, batch_size, max_batch_tokens)
        self.decoding = decoding

    def measure(self, context: RunContext) -> Measurements:
        """Returns a row per record, the mean of both populations and their signed gap."""
        return audit_released(self.audit_context(context), self.decoding)
