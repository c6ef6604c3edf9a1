"""The exposure audit: how far planted secrets stand out, with every validation."""

from audits.context import Measurements
from audits.memorization.candidate_pass import CandidateSet
from audits.memorization.exposure_audit import Candidates, audit_exposure
from audits.rows import Audit
from callbacks.audit import AuditCallback
from callbacks.run import RunContext
from common.errors import UserError
from common.options import require_at_least
from datamodules.canaries import Canary
from datamodules.instruction import InstructionDataModule


class ExposureAudit(AuditCallback):
    """Measures the exposure of the canaries that the private split holds once to 16 times.

    A model that never met them, such as a control, is audited on the same canaries: its mean
    exposure should be that of chance, 1.44 bits.

    Args:
        max_candidates: Largest space of which every secret is scored, for the exact rank; 24,000
            takes in the codes.
        sample_candidates: Secrets drawn from a larger space, among which the rank gives the p-value
            and to which a skew-normal distribution is fitted for the bits, an approximation.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that;
            None, as the run's other audits (``audits.every_n_validations``).
        batch_size: Most candidates in a batch.
        max_batch_tokens: Most tokens in a batch, the prompt counted once per candidate.
    """

    audit = Audit.exposure

    def __init__(
        self,
        max_candidates: int = 24_000,
        sample_candidates: int = 1000,
        every_n_validations: int | None = None,
        batch_size: int = 256,
        max_batch_tokens: int = 32_768,
    ) -> None:
        super().__init__(every_n_validations, None, batch_size, max_batch_tokens)
        require_at_least(0, max_candidates=max_candidates)
        self.candidates = Candidates(max_candidates, sample_candidates)
        self._sets: list[CandidateSet] = []

    def check(self, context: RunContext) -> None:
        """Refuses data without exposure canaries."""
        exposure_canaries(context)

    def measure(self, context: RunContext) -> Measurements:
        """Returns a row per canary, and means by format and repetitions with their curves."""
        canaries = exposure_canaries(context)
        if not self._sets:
            encoder = context.data.encoder
            self._sets = [self.candidates.of(canary, encoder) for canary in canaries]
        model = self.audit_context(context).model
        return audit_exposure(model, canaries, self._sets, self.candidates)


def exposure_canaries(context: RunContext) -> list[Canary]:
    """Returns the exposure series of the run's data.

    Raises:
        UserError: If none are planted.
    """
    planted = context.data.canaries if isinstance(context.data, InstructionDataModule) else []
    found = [canary for canary in planted if canary.series == "exposure"]
    if not found:
        raise UserError(
            "ExposureAudit has no exposure canaries to audit: plant them with "
            "-c configs/data/canaries.yaml, or --data.canaries.exposure_per_level 20"
        )
    return found
