"""The transfer audit: which private records lie verbatim in the text that taught the student."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer

from audits.context import Measurements
from audits.rows import Audit
from audits.utility.transfer import Met, SpanIndex, audit_transfer, span_index
from callbacks.audit import AuditCallback
from callbacks.run import RunContext
from common.errors import UserError
from common.ranks import Ranks
from datamodules.batches import InstructionBatch
from kdmodules.student import StudentModule


class TransferAudit(AuditCallback):
    """Watches the responses that a student is trained on, whoever wrote them.

    What a teacher says of public prompts is a direct channel for its private records: in SeqKD's
    text and in on-policy samples they can travel word for word. Reported is the share of private
    responses with a verbatim span in that text, and beside it the share of records that no run
    trains on, which formulaic answers explain. A module without a teacher is left alone.

    Args:
        span_tokens: Tokens of a span; shorter responses are skipped.
        max_records: Most records of a population.
    """

    audit = Audit.transfer

    def __init__(self, span_tokens: int = 20, max_records: int | None = None) -> None:
        super().__init__(max_records=max_records)
        if span_tokens < 1:
            raise UserError(f"span_tokens is {span_tokens}: give at least 1")
        self.span_tokens = span_tokens
        self._index: SpanIndex | None = None
        self._met: Met = set()
        self._ranks = Ranks()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Indexes the spans of private, held-out and never-seen responses."""
        if not isinstance(pl_module, StudentModule):
            return
        context = self.audit_context(RunContext.of(trainer, pl_module))
        self._ranks = context.model.ranks
        self._index = span_index(context, self.span_tokens)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: InstructionBatch,
        batch_idx: int,
    ) -> None:
        """Looks for spans in the responses of the step."""
        if self._index is None or not isinstance(pl_module, StudentModule):
            return
        used: InstructionBatch = outputs["trained_on"]
        rows = zip(used.input_ids.cpu(), used.response_mask.cpu(), strict=True)
        self._met |= self._index.records_in(ids[mask].tolist() for ids, mask in rows)

    def state_dict(self) -> dict[str, Any]:
        """Adds what was found so far on all ranks, so that a resumed run goes on from there."""
        self._share_finds()
        return {**super().state_dict(), "met": sorted(self._met)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores both."""
        super().load_state_dict(state_dict)
        self._met = {(population, record) for population, record in state_dict["met"]}

    def measure(self, context: RunContext) -> Measurements:
        """Returns the share of each population, and the gaps between private and the others."""
        if self._index is None:
            return Measurements()
        self._share_finds()
        return audit_transfer(self.audit_context(context), self._index, self._met)

    def _share_finds(self) -> None:
        """Makes what any rank has found known to all; every rank must come here."""
        every = self._ranks.gather([sorted(self._met)])
        self._met = {record for met in every for record in met}
