"""The audit of token accuracy as published; off unless a fragment names it."""

from collections.abc import Sequence

import numpy as np

from audits.context import AuditContext, Measurements
from audits.memorization.estimates import estimate
from audits.memorization.metrics import Summary
from audits.memorization.released import ReleasedDecoding, released_accuracies
from audits.rows import Audit, ResultRow, bounds
from audits.statistics.means import UtilityEstimate, gap
from callbacks.audit import AuditCallback
from callbacks.run import RunContext
from datamodules.records import InstructionRecord

_NAME = "token_accuracy_as_released"
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
        found = Measurements()
        audit = self.audit_context(context)
        members = context.data.member_population
        params = self._params()
        means: list[tuple[UtilityEstimate | None, int]] = []
        for name in (members, context.data.opposed_to(members)):
            population = audit.population(name)
            records = audit.answered(name)
            values = self._values(audit, records)
            summary = Summary(_NAME, np.array(values))
            mean = estimate(summary, np.arange(len(records)), context.data.clusters(records))
            means.append((mean, len(records)))
            found.memorization += [
                {
                    "population": name,
                    "name": _NAME,
                    "params": params,
                    "record": one.id,
                    "task": one.task,
                    "value": value,
                }
                for one, value in zip(records, values, strict=True)
            ]
            found.results.append(
                ResultRow(
                    population=name,
                    name=_NAME,
                    params=params,
                    metric=_NAME,
                    n_members=len(records) if name == members else None,
                    n_nonmembers=None if name == members else len(records),
                    skipped=len(population) - len(records),
                    **bounds(mean),
                )
            )
        (inside, n), (outside, m) = means
        both = None if inside is None or outside is None else gap(inside, outside)
        found.results.append(
            ResultRow(
                population=members,
                name=_NAME,
                params=params,
                metric=f"{_NAME}_gap",
                n_members=n,
                n_nonmembers=m,
                **bounds(both),
            )
        )
        return found

    def _values(self, context: AuditContext, records: Sequence[InstructionRecord]) -> list[float]:
        encoded = context.model.encoder.encode_all(records)
        return released_accuracies(context.model, encoded, self.decoding)

    def _params(self) -> dict[str, object]:
        decoding = self.decoding
        return {
            "tokens": decoding.tokens,
            "prompt_tokens": decoding.prompt_tokens,
            "no_repeat_ngram": decoding.no_repeat_ngram,
            "min_new_tokens": decoding.min_new_tokens,
        }
