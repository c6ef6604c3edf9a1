"""The audit of token accuracy as published; off unless a fragment names it."""

from collections.abc import Sequence

import numpy as np

from audits.context import AuditContext, Measurements
from audits.memorization.estimates import estimate
from audits.memorization.metrics import Summary
from audits.memorization.released import ReleasedDecoding, released_accuracies
from audits.results import Row
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

    audit = "released"
    writes = True

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
        means: list[tuple[UtilityEstimate | None, int]] = []
        for name, side in (
            (members, "n_members"),
            (context.data.opposed_to(members), "n_nonmembers"),
        ):
            population = audit.population(name)
            records = audit.answered(name)
            values = self._values(audit, records)
            summary = Summary(_NAME, np.array(values))
            mean = estimate(summary, np.arange(len(records)), context.data.clusters(records))
            means.append((mean, len(records)))
            found.memorization += [
                {**self._key(name), "record": one.id, "task": one.task, "value": value}
                for one, value in zip(records, values, strict=True)
            ]
            counts = {side: len(records), "skipped": len(population) - len(records)}
            found.results.append({**self._key(name), "metric": _NAME, **_bounds(mean), **counts})
        (inside, n), (outside, m) = means
        both = None if inside is None or outside is None else gap(inside, outside)
        row = {**self._key(members), "metric": f"{_NAME}_gap", **_bounds(both)}
        found.results.append({**row, "n_members": n, "n_nonmembers": m})
        return found

    def _values(self, context: AuditContext, records: Sequence[InstructionRecord]) -> list[float]:
        encoded = context.model.encoder.encode_all(records)
        return released_accuracies(context.model, encoded, self.decoding)

    def _key(self, population: str) -> Row:
        decoding = self.decoding
        params = {
            "tokens": decoding.tokens,
            "prompt_tokens": decoding.prompt_tokens,
            "no_repeat_ngram": decoding.no_repeat_ngram,
            "min_new_tokens": decoding.min_new_tokens,
        }
        return {"population": population, "name": _NAME, "params": params}


def _bounds(found: UtilityEstimate | None) -> Row:
    if found is None:
        return {}
    return {"value": found.value, "lower": found.lower, "upper": found.upper}
