"""The memorization audit: what the model writes of its records by itself, with every validation."""

from collections.abc import Mapping, Sequence
from itertools import chain

from audits.membership.measurements import NEVER
from audits.memorization.continuations import (
    Continuation,
    continuations,
    write_continuations,
)
from audits.memorization.curves import curves, extraction_figures
from audits.memorization.greedy_continuation import GreedyContinuation, Request
from audits.memorization.greedy_decoding import continue_greedily
from audits.memorization.judging import Judged, judge
from audits.memorization.metrics import (
    ExactMatch,
    ExtractionStrength,
    MemorizationMetric,
    NearMatch,
    NPExtraction,
    TokenAccuracy,
)
from audits.memorization.rows import gap_rows, population_rows, record_rows
from audits.scoring.shift_test import coins_row
from callbacks.audit import AuditCallback, Measurements
from callbacks.run import AuditContext, run_folder
from common.errors import UserError
from datamodules.batches import EncodedRecord

_PREFIXES = (0, 10, 25)


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
        baselines: Populations that stand beside them as further non-members. None takes never; an
            external model's data have no such records, so that its audit gives none.
        keep_continuations: Keeps, in the run's private folder, what the model wrote in place of its
            members' responses at the last audit; `kd-study report --reveal` shows the worst.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that;
            None, as the run's other audits (``audits.every_n_validations``).
        max_records: Most records of a population.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
    """

    audit = "memorization"
    writes = True

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
        names = [(metric.name, str(metric.params)) for metric in self.metrics]
        if not names or len(set(names)) < len(names):
            raise UserError(
                f"metrics are {[name for name, _ in names]}: name at least one, each once"
            )
        self.populations = populations
        self.baselines = [NEVER] if baselines is None else baselines
        self.keep_continuations = keep_continuations

    def measure(self, context: AuditContext) -> Measurements:
        """Judges every population and returns rows, record by record and in sum, and curves."""
        members = self.populations or [context.data.member_population]
        against = {
            name: list(dict.fromkeys([context.data.opposed_to(name), *self.baselines]))
            for name in members
        }
        everyone = dict.fromkeys([*members, *chain.from_iterable(against.values())])
        judged: dict[str, list[Judged]] = {}
        written: list[Continuation] = []
        for name in everyone:
            continued = self._continued(context, name)
            judged[name] = self._judged(context, name, continued)
            if name in members and self.keep_continuations:
                written += continuations(name, continued, self._requests)
        if written and context.trainer.is_global_zero:
            write_continuations(written, run_folder(context.trainer) / "private")
        found = self._measurements(judged, against)
        found.results += [coins_row(name, context.data.dealt_by_coins(name)) for name in members]
        return found

    def _measurements(
        self, judged: Mapping[str, Sequence[Judged]], against: Mapping[str, Sequence[str]]
    ) -> Measurements:
        """Returns the rows of populations and of gaps, and their curves and figures."""
        found = Measurements()
        for name, parts in judged.items():
            side = "n_members" if name in against else "n_nonmembers"
            for one in parts:
                found.memorization += record_rows(one)
                found.results += population_rows(one, side)
        found.figures |= extraction_figures(found.results)
        for name, others in against.items():
            for other in others:
                for inside, outside in zip(judged[name], judged[other], strict=True):
                    found.results += gap_rows(inside, outside)
        found.curves |= curves(found.results)
        return found

    def _continued(self, context: AuditContext, name: str) -> list[GreedyContinuation]:
        """Returns what the model says of a population's records, the same on every rank."""
        records = [record for record in self.population(context, name) if record.response]
        access = self.model_access(context)
        schemes = [metric.scheme for metric in self.metrics if metric.scheme is not None]
        return continue_greedily(
            access,
            context.data.encoder.encode_all(records),
            self._requests,
            list(dict.fromkeys(schemes)),
            f"memorization of {name}",
            lambda one: max(metric.read_tokens(one) for metric in self.metrics),
        )

    def _judged(
        self, context: AuditContext, name: str, continued: Sequence[GreedyContinuation]
    ) -> list[Judged]:
        """Returns one entry for every metric, in order."""
        population = self.population(context, name)
        records = [record for record in population if record.response]
        clusters = context.data.clusters(records)
        unanswered = len(population) - len(records)
        return [judge(metric, name, continued, clusters, unanswered) for metric in self.metrics]

    def _requests(self, record: EncodedRecord) -> Sequence[Request]:
        return [
            request
            for metric in self.metrics
            if metric.judged_tokens(record)
            for request in metric.requests(record)
        ]


def default_metrics() -> list[MemorizationMetric]:
    """Returns every metric as defined, near matches after the prompt alone."""
    return [
        TokenAccuracy(),
        ExtractionStrength(),
        *(ExactMatch(prefix) for prefix in _PREFIXES),
        *(NPExtraction(prefix) for prefix in _PREFIXES),
        NearMatch("rouge_l"),
        NearMatch("edit_similarity"),
        NearMatch("bleu"),
    ]
