"""The audit of sensitive spans: how likely they come out, with the last validation."""

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from audits.context import Measurements
from audits.rows import Audit
from audits.spans.audit import audit_spans, check_spans, spans_cost
from audits.spans.options import SpanOptions
from callbacks.audit import AuditCallback
from callbacks.run import RunContext, private_folder


class SpanAudit(AuditCallback):
    """Asks how likely a model writes the sensitive spans of its records: exactly, and by sampling.

    Records name their spans in the field `sensitive`, or ``--data.detect_pii presidio`` finds some.
    It says what it will run before it does.

    Args:
        samples: Answers that are sampled of each record, and of each generic prompt.
        sampled_records: Records of each population that are sampled, the first that have a span to
            extract; 0 samples nothing, and exact probabilities alone are told.
        answer_tokens: Most tokens of an answer.
        temperature: Divides the logits.
        top_k: Sampling keeps this many of the likeliest tokens; 0 keeps all.
        top_p: Sampling keeps the likeliest tokens up to this mass; 1 keeps all.
        populations: Populations whose records count as members, as in `MemorizationAudit`.
        baselines: Populations that stand beside them, likewise.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that.
        max_records: Most records of a population.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
    """

    audit = Audit.spans

    def __init__(
        self,
        samples: int = 10,
        sampled_records: int = 50,
        answer_tokens: int = 64,
        temperature: float = 1.0,
        top_k: int = 40,
        top_p: float = 1.0,
        populations: list[str] | None = None,
        baselines: list[str] | None = None,
        every_n_validations: int | None = 0,
        max_records: int | None = None,
        batch_size: int = 64,
        max_batch_tokens: int = 8192,
    ) -> None:
        super().__init__(every_n_validations, max_records, batch_size, max_batch_tokens)
        self.options = SpanOptions(
            samples, sampled_records, answer_tokens, temperature, top_k, top_p
        )
        self.populations = populations
        self.baselines = baselines

    def check(self, context: RunContext) -> None:
        """Refuses populations that are not there or have no spans, and says what will be run."""
        given = self.audit_context(context)
        check_spans(given, self.populations, self.baselines)
        cost = spans_cost(given, self.options, self.populations, self.baselines)
        rank_zero_info(f"sensitive spans: {cost}")

    def measure(self, context: RunContext) -> Measurements:
        """Returns rows span by span and in sum, and keeps the worst spans by id."""
        return audit_spans(
            self.audit_context(context),
            self.options,
            self.populations,
            self.baselines,
            private_folder(context.trainer),
        )
