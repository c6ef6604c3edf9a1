"""The transfer audit: which private records lie verbatim in the text that taught the student."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer

from audits.context import AuditContext, Measurements
from audits.membership.measurements import NEVER
from audits.memorization.estimates import estimate
from audits.memorization.metrics import Summary
from audits.rows import Audit, ResultRow, bounds
from audits.statistics.means import UtilityEstimate, gap
from audits.utility.transfer import SpanIndex
from callbacks.audit import AuditCallback
from callbacks.run import RunContext
from common.errors import UserError
from common.ranks import Ranks
from datamodules.batches import InstructionBatch
from kdmodules.student import StudentModule

Met = set[tuple[str, str]]


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
        self._index = SpanIndex(
            {name: self._responses(context, name) for name in self._populations(context)},
            self.span_tokens,
        )

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
        found = Measurements()
        if self._index is None:
            return found
        self._share_finds()
        audit = self.audit_context(context)
        members, *others = self._populations(audit)
        shares = {name: self._share(audit, name) for name in (members, *others)}
        for name, (share, n) in shares.items():
            row = self._row(name, "transfer_overlap", share)
            inside = name == members
            found.results.append(
                replace(
                    row,
                    n_members=n if inside else None,
                    n_nonmembers=None if inside else n,
                    skipped=len(audit.population(name)) - n,
                )
            )
            if row.value is not None:
                found.curves[f"transfer/{name}/overlap"] = row.value
        for name in others:
            (ours, n), (theirs, m) = shares[members], shares[name]
            both = None if ours is None or theirs is None else gap(ours, theirs)
            row = self._row(members, "transfer_overlap_gap", both, against=name)
            found.results.append(replace(row, n_members=n, n_nonmembers=m))
        return found

    def _share_finds(self) -> None:
        """Makes what any rank has found known to all; every rank must come here."""
        every = self._ranks.gather([sorted(self._met)])
        self._met = {one for own in every for one in own}

    def _populations(self, context: AuditContext) -> list[str]:
        members = context.data.member_population
        return list(dict.fromkeys([members, context.data.opposed_to(members), NEVER]))

    def _responses(self, context: AuditContext, name: str) -> dict[str, Sequence[int]]:
        encoded = context.model.encoder.encode_all(context.answered(name))
        return {record.record_id: record.response_ids for record in encoded}

    def _share(self, context: AuditContext, name: str) -> tuple[UtilityEstimate | None, int]:
        """Returns the share of a population's long enough records, and their number."""
        long_enough = set() if self._index is None else set(self._index.long_enough(name))
        records = [one for one in context.population(name) if one.id in long_enough]
        values = np.array([(name, record.id) in self._met for record in records], dtype=np.float64)
        summary = Summary("transfer_overlap", values)
        clusters = context.data.clusters(records)
        return estimate(summary, np.arange(len(records)), clusters), len(records)

    def _row(
        self, population: str, metric: str, found: UtilityEstimate | None, **more: str
    ) -> ResultRow:
        return ResultRow(
            population=population,
            name="transfer_overlap",
            params={"tokens": self.span_tokens, **more},
            metric=metric,
            **bounds(found),
        )
