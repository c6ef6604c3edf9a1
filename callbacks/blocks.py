"""The block audit: what every transformer block tells of members, with every validation."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from audits.blocks.figures import earlier_rows, evolution_figure, evolution_of, profile_figure
from audits.blocks.profile import MeasuredSide, Profile
from audits.blocks.recorder import transformer_blocks
from audits.blocks.recording import record_signals
from audits.blocks.rows import BlockScoreRows, BlockSide, profile_rows, scalars
from audits.blocks.signals import BlockAccess, BlockSignal, RecordedSignal, RerunSignal
from audits.membership.measurements import NEVER
from audits.scoring.blind_baseline import BlindOptions
from audits.scoring.shift_test import ShiftTest
from callbacks.audit import AuditCallback, Measurements
from callbacks.references import reference_models
from callbacks.run import AuditContext, run_folder
from callbacks.shift import shared_shift_test
from common.errors import UserError
from common.keys import key
from datamodules.batches import EncodedRecord

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

    audit = "blocks"

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
        names = [(signal.name, str(signal.params)) for signal in signals]
        if not signals or len(set(names)) < len(names):
            raise UserError(
                f"signals are {[name for name, _ in names]}: name at least one, each once"
            )
        self.signals = signals
        self.populations = populations
        self.blind = blind

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses, before anything is trained, signals without the text that they are fitted on.

        Raises:
            UserError: If there is none that is not audited, or none that no model met.
        """
        context = AuditContext.of(trainer, pl_module)
        if any(signal.needs_development for signal in self.signals):
            self._development(context)
        if any(signal.needs_never for signal in self.signals):
            self._side(context, NEVER)

    def measure(self, context: AuditContext) -> Measurements:
        """Measures both sides of every population and returns rows, scalars and figures."""
        n_blocks = len(transformer_blocks(context.module.language_model.model))
        scores = BlockScoreRows(n_blocks)
        found = Measurements(scores=scores)
        access = self._access(context)
        signals = [signal.fitted(access) for signal in self.signals]
        pairs = self._pairs(context)
        sides = {name: self._side(context, name) for name in _named(pairs)}
        measured = {
            name: _measured(signals, access, encoded) for name, (_, encoded) in sides.items()
        }
        opposed = {
            (inside, outside): _oppose(
                signals,
                (sides[inside][0], measured[inside]),
                (sides[outside][0], measured[outside]),
            )
            for inside, outside in pairs
        }
        scored: set[str] = set()
        for (inside, outside), profiles in opposed.items():
            ours, theirs = sides[inside][0], sides[outside][0]
            shift_test = self._shift_test(context, ours, theirs)
            found.results += () if shift_test is None else shift_test.rows
            shifted = None if shift_test is None else shift_test.verdict.shifted
            for profile in profiles:
                found.results += profile_rows(profile, ours, theirs, n_blocks, shifted)
                found.curves |= scalars(profile, inside)
                for side, own in (
                    (ours, profile.member_scores),
                    (theirs, profile.nonmember_scores),
                ):
                    # Non-members of two populations stand in the table once.
                    if side.population not in scored:
                        scores.add(profile, side, own)
                scores.add_permuted(profile, inside)
            scored |= {inside, outside}
            warning = "SHIFTED DATA: " if shift_test is not None and shift_test.alarming else ""
            self._draw(found, context, profiles, (ours, theirs), warning)
        return found

    def _shift_test(
        self, context: AuditContext, ours: BlockSide, theirs: BlockSide
    ) -> ShiftTest | None:
        """Returns what the texts alone tell of two sides; None where nobody asks."""
        if self.blind is None:
            return None
        return shared_shift_test(
            context.trainer,
            ours.population,
            ours.blind,
            theirs.blind,
            self.blind,
            ours.skipped + theirs.skipped,
            context.data.dealt_by_coins(ours.population),
        )

    def _access(self, context: AuditContext) -> BlockAccess:
        references = reference_models(context.trainer)
        model = self.model_access(context)
        return BlockAccess(
            model,
            cache(lambda name: references.load(name, context.module)),
            lambda: self._development(context),
            lambda: self._side(context, NEVER)[1],
        )

    def _pairs(self, context: AuditContext) -> list[tuple[str, str]]:
        members = self.populations or [context.data.member_population]
        return [(name, context.data.opposed_to(name)) for name in members]

    def _development(self, context: AuditContext) -> list[EncodedRecord]:
        """Returns development records with a response, none of which any audit could judge."""
        records = context.data.development_records()
        for name in _named(self._pairs(context)):
            audited = {record.content for record in context.data.population(name)}
            shared = sum(record.content in audited for record in records)
            if shared:
                raise UserError(
                    f"{self._fitted_names()} is fitted on development text, and {shared} of the "
                    f"{len(records)} development records are audited as {name!r}: leave it out "
                    "(configs/audits/blocks_all.yaml has the other signals), or audit with data "
                    "that have a development split of their own"
                )
        encoded = context.data.tokens("development", records)
        found = [record for record in encoded if record.response_ids]
        if len(found) < 2:
            raise UserError(
                f"{self._fitted_names()} is fitted on some development records and judged on "
                f"others, and {len(found)} of them has a response: give "
                "data.splits.fractions.development a larger share, or leave it out"
            )
        return found

    def _fitted_names(self) -> str:
        return ", ".join(signal.name for signal in self.signals if signal.needs_development)

    def _side(self, context: AuditContext, name: str) -> tuple[BlockSide, list[EncodedRecord]]:
        """Returns a population's scorable records and their tokens."""
        population = self.population(context, name)
        answered = [record for record in population if record.response]
        both = list(zip(answered, context.data.encoder.encode_all(answered), strict=True))
        kept = [(record, encoded) for record, encoded in both if encoded.response_ids]
        records = [record for record, _ in kept]
        if len(records) < 2:
            raise UserError(
                f"BlockAudit: population {name!r} has {len(records)} records with a response, and "
                "2 or more are needed"
            )
        clusters = np.array([key(one) for one in context.data.clusters(records)], dtype=np.int64)
        side = BlockSide(name, records, clusters, skipped=len(population) - len(records))
        return side, [encoded for _, encoded in kept]

    def _draw(
        self,
        found: Measurements,
        context: AuditContext,
        profiles: Sequence[Profile],
        sides: tuple[BlockSide, BlockSide],
        warning: str,
    ) -> None:
        """Adds the profiles of this checkpoint and the evolution over all of them."""
        if not context.trainer.is_global_zero:
            return
        ours, theirs = sides
        counts = f"n = {len(ours.records)} + {len(theirs.records)}"
        heading = f"{warning}{ours.population} against {theirs.population}: {counts}"
        found.figures[f"blocks/{ours.population}/profile"] = profile_figure(profiles, heading)
        current: list[Mapping[str, object]] = [
            {**row, "step": context.step} for row in found.results
        ]
        rows = [*earlier_rows(run_folder(context.trainer), self.audit, context.step), *current]
        evolution = evolution_of(rows, ours.population)
        found.figures[f"blocks/{ours.population}/evolution"] = evolution_figure(evolution, heading)


def _named(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Returns every population of some pairs, once."""
    return list(dict.fromkeys(name for pair in pairs for name in pair))


def _measured(
    signals: Sequence[BlockSignal], access: BlockAccess, encoded: Sequence[EncodedRecord]
) -> list[Tensor]:
    """Returns one tensor [R, L, K] for every signal, in order."""
    recorded = [one for one in signals if isinstance(one, RecordedSignal)]
    found: dict[BlockSignal, Tensor] = {}
    if recorded:
        read = record_signals(access.model, encoded, recorded)
        found |= dict(zip(recorded, read, strict=True))
    for signal in signals:
        if isinstance(signal, RerunSignal):
            found[signal] = signal.measure(access, encoded)
    return [found[signal] for signal in signals]


def _oppose(
    signals: Sequence[BlockSignal],
    members: tuple[BlockSide, Sequence[Tensor]],
    nonmembers: tuple[BlockSide, Sequence[Tensor]],
) -> list[Profile]:
    (ours, inside), (theirs, outside) = members, nonmembers
    profiles = []
    for signal, one, other in zip(signals, inside, outside, strict=True):
        profiles += signal.oppose(
            MeasuredSide(one, ours.tasks, ours.clusters),
            MeasuredSide(other, theirs.tasks, theirs.clusters),
        )
    return profiles
