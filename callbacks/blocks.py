"""The block audit: what every transformer block tells of members, with every validation."""

from audits.blocks.audit import audit_blocks, check_blocks
from audits.blocks.figures import earlier_rows
from audits.blocks.signals import BlockSignal
from audits.context import Measurements, require_distinct
from audits.rows import Audit
from audits.scoring.blind_baseline import BlindOptions
from callbacks.audit import AuditCallback
from callbacks.run import RunContext, run_folder

_DEFAULT_BLIND = BlindOptions()


class BlockAudit(AuditCallback):
    """Asks of every transformer block how well it lets members be told from others.

    A block's AUROC says how well an attacker does who reads or disturbs that block, not where a
    record is stored.

    Args:
        signals: The signals; those that only read share one forward pass.
        populations: Populations whose records count as members, each against its non-members:
            private (an external model's: external), public, never; None takes the data's members.
        blind: The blind baseline, which tells whether the text alone gives members away; measured
            once in a run. None leaves it out, and no row then says whether the data are shifted.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that;
            None, as the run's other audits (``audits.every_n_validations``).
        max_records: Most records of a population.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding; every block's input of a batch is
            held at once by signals that run blocks again.
    """

    audit = Audit.blocks

    def __init__(
        self,
        signals: list[BlockSignal],
        populations: list[str] | None = None,
        blind: BlindOptions | None = _DEFAULT_BLIND,
        every_n_validations: int | None = None,
        max_records: int | None = None,
        batch_size: int = 64,
        max_batch_tokens: int = 8192,
    ) -> None:
        super().__init__(every_n_validations, max_records, batch_size, max_batch_tokens)
        require_distinct("signals", signals)
        self.signals = signals
        self.populations = populations
        self.blind = blind

    def check(self, context: RunContext) -> None:
        """Refuses populations that are not there, and signals without text to be fitted on."""
        check_blocks(self.audit_context(context), self.signals, self.populations)

    def measure(self, context: RunContext) -> Measurements:
        """Measures both sides of every population and returns rows, scalars and figures."""
        earlier = earlier_rows(run_folder(context.trainer), self.audit, context.step)
        return audit_blocks(
            self.audit_context(context), self.signals, self.populations, self.blind, earlier
        )
