"""The bound by information on what sampled text tells of records, with the last validation."""

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from audits.context import Measurements
from audits.rows import Audit
from audits.text_bound import TextOptions, audit_text_bound, check_text_bound
from callbacks.audit import AuditCallback
from callbacks.run import RunContext
from common.errors import UserError
from datamodules.encoded import EncodedRecord
from datamodules.instruction import InstructionDataModule


class TextBoundAudit(AuditCallback):
    """Bounds how many coins anybody guesses right who read a teacher's sampled text and nothing
    else.

    An average over teachers of worlds with coins of their own, of which it needs at least eight
    beside the audited one: references ``shadow0``, ``shadow1``, ..., as a study with ``shadows``
    gives them. Void where the draws of the text that a student reads can be repeated: where their
    seed is published, or can be guessed. It says what it will run before it does.

    Args:
        worlds: Shadow worlds, the references that are read.
        prompts: Public prompts that the model of each world answers.
        max_new_tokens: Longest response in tokens, as long as those that a student reads.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
    """

    audit = Audit.text_bound

    def __init__(
        self,
        worlds: int = 16,
        prompts: int = 32,
        max_new_tokens: int = 256,
        batch_size: int = 64,
        max_batch_tokens: int = 8192,
    ) -> None:
        super().__init__(0, None, batch_size, max_batch_tokens)
        self.options = TextOptions(worlds, prompts, max_new_tokens)

    def check(self, context: RunContext) -> None:
        """Refuses records that no coins dealt and worlds that cannot be read, and says the cost."""
        check_text_bound(self.audit_context(context), self.options, public_prompts(context))
        rank_zero_info(f"text bound: {self.options.cost}")

    def measure(self, context: RunContext) -> Measurements:
        """Returns rows of information, of tokens and of the highest accuracy."""
        return audit_text_bound(self.audit_context(context), self.options, public_prompts(context))


def public_prompts(context: RunContext) -> list[EncodedRecord]:
    """Returns the public records whose prompts a teacher answers for its student, once each.

    Raises:
        UserError: If the data have no public split.
    """
    data = context.data
    if not isinstance(data, InstructionDataModule):
        raise UserError("TextBoundAudit: only records that are split here have public prompts")
    records = data.tokens("public", data.training_records("public"))
    return list({one.record_id: one.last_turn for one in records}.values())
