"""Measures what an audit plan asks for, each thing once, one model after the other."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from audits.membership.measurements import AUDITED, NEVER, Scored
from audits.membership.plan import AuditPlan
from audits.membership.signals import RecordSignal
from audits.membership.texts import TextMaterial
from audits.membership.view import AuditView
from audits.scoring.encoded_file import EncodedFile, Records
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from audits.scoring.scoring_pass import score_records
from audits.scoring.statistics_file import StatisticsFile
from audits.scoring.token_statistics import (
    SHARD_RECORDS,
    StatisticsKey,
    record_set_hash,
    shard_places,
)
from common.errors import UserError
from datamodules.batches import RecordEncoder
from datamodules.records import InstructionRecord
from datamodules.tokenizer import vocabulary_hash
from kdmodules.models.anatomy import context_window
from kdmodules.models.causal_lm import CausalLM, model_device

Populations = Mapping[str, Records]
Found = dict[Scored, StatisticsFile]


@dataclass(frozen=True)
class Collector:
    """Runs a plan over populations.

    Attributes:
        access: The audited model.
        load_reference: Loads a reference model by name; it is dropped after its passes.
        own_pass: Scores a population's own text by the audited model, shared with other audits;
            whether to tell what is left outside the likeliest tokens.
        weights_hash: Returns the hash of a model's weights, or an empty text where nothing is kept
            that would need one.
        pool_records: Returns the pool records of a side (``private``, ``held_out``) and a use
            (``shots``, ``population``, ``calibration``) that no audit judges.
        never_records: Returns records that neither the audited model nor any reference trained on.
        met: Returns whether the training behind a reference model met each record.
        folder: Where tokens and their statistics lie while they are in use; None is the system's
            folder for temporary files.
    """

    access: ModelAccess
    load_reference: Callable[[str], ReferenceModel]
    own_pass: Callable[[str, bool], StatisticsFile]
    weights_hash: Callable[[CausalLM], str]
    pool_records: Callable[[str, str], list[InstructionRecord]]
    never_records: Callable[[], list[InstructionRecord]]
    met: Callable[[str, Records], list[bool]]
    folder: Path | None = None

    def check(self, plan: AuditPlan, populations: Populations) -> None:
        """Refuses, before anything is trained, what the audit could not measure after it.

        Args:
            plan: What to measure.
            populations: Records by population.

        Raises:
            UserError: If a pool use that an attack reads has no records, or none that fits into the
                model's window, or a response that one rewrites is not all that is scored, or a
                reference is named after a world that the split does not have.
        """
        kept = _answered(populations)
        self._require_rewritable(plan, kept)
        material = self._material(self.access, kept)
        for request in plan.scored(AUDITED):
            request.text.facts(material)
        for use in plan.asides:
            self._aside(use)
        for reference in plan.references:
            self.met(reference, [])

    def collect(self, plan: AuditPlan, populations: Populations) -> dict[str, AuditView]:
        """Returns a view of every population's records that have a response.

        Args:
            plan: What to measure.
            populations: Records by population.

        Raises:
            UserError: If a pool use that an attack reads has no records, or a reference is unknown.
            FloatingPointError: Naming the record for which a model's output is not a number.
        """
        kept = _answered(populations)
        self._require_rewritable(plan, kept)
        passes: dict[str, Found] = {name: {} for name in kept}
        signals: dict[str, dict[RecordSignal, Tensor]] = {name: {} for name in kept}
        for model in plan.models:
            access = self._access(model)
            self._score_all(plan, model, access, kept, passes)
            for name, records in kept.items():
                signals[name] |= self._signals(plan.signals(model), access, records)
        tokenizer = self.access.encoder.tokenizer
        frequencies = {request: request.measure(tokenizer) for request in plan.frequencies}
        return {
            name: AuditView(
                records,
                passes[name],
                signals[name],
                {name: torch.tensor(self.met(name, records)) for name in plan.references},
                frequencies,
                scored_text=self.access.encoder.scored_text,
            )
            for name, records in kept.items()
        }

    def _require_rewritable(self, plan: AuditPlan, populations: Populations) -> None:
        if any(request.text.rewrites for model in plan.models for request in plan.scored(model)):
            for records in populations.values():
                for record in records:
                    self.access.encoder.require_rewritable(record)

    def _access(self, model: str) -> ModelAccess:
        if model == AUDITED:
            return self.access
        reference = self.load_reference(model)
        return replace(self.access, lm=reference.lm, encoder=reference.encoder, audited=self.access)

    def _score_all(
        self,
        plan: AuditPlan,
        model: str,
        access: ModelAccess,
        populations: Populations,
        passes: Mapping[str, Found],
    ) -> None:
        material = self._material(access, populations)
        # The first rank's: where weights are sharded, the others do not hold them.
        weights = access.ranks.gather([self.weights_hash(access.lm)])[0]
        made_of = StatisticsKey(weights, vocabulary_hash(access.encoder.tokenizer), records="")
        for name, records in populations.items():
            for request in plan.scored(model):
                if request == Scored():
                    key = replace(made_of, records=_encoded_set_hash(records, access.encoder))
                    table = replace(self.own_pass(name, plan.outside_top), key=key)
                else:
                    table = self._score(access, request, name, records, material, made_of)
                passes[name][request] = table
        for use in plan.asides:
            records = self._aside(use)
            for request in plan.scored(model, use):
                table = self._score(access, request, use, records, material, made_of)
                for found in passes.values():
                    found[request] = table

    def _score(
        self,
        access: ModelAccess,
        request: Scored,
        population: str,
        records: Records,
        material: TextMaterial,
        made_of: StatisticsKey,
    ) -> StatisticsFile:
        key = replace(made_of, records=_encoded_set_hash(records, access.encoder))
        title = f"scoring {population}, {request.label}"
        encoded = EncodedFile(
            records, lambda part: request.text.encode(part, material), self.folder
        )
        table = score_records(access, encoded, title, key, self.folder)
        return replace(table, facts=request.text.facts(material))

    def _signals(
        self, signals: Sequence[RecordSignal], access: ModelAccess, records: Records
    ) -> dict[RecordSignal, Tensor]:
        if not signals:
            return {}
        encoded = EncodedFile(records, access.encoder.encode_all, self.folder)
        return {signal: signal.measure(access, encoded) for signal in signals}

    def _aside(self, use: str) -> list[InstructionRecord]:
        never = use == NEVER
        found = self.never_records() if never else self.pool_records("held_out", use)
        records = [one for one in found if one.response]
        if not records:
            option = "fractions.never" if never else f"roles.{use}"
            raise UserError(
                f"an attack reads records of the use {use!r} and there are none: give "
                f"data.splits.{option} a share above 0"
            )
        return records

    def _material(self, access: ModelAccess, populations: Populations) -> TextMaterial:
        encoder: RecordEncoder = access.encoder

        @cache
        def longest() -> int:
            return max(
                len(one)
                for records in populations.values()
                for places in shard_places(len(records), SHARD_RECORDS)
                for one in encoder.encode_all([records[place] for place in places.tolist()])
            )

        return TextMaterial(
            encoder=encoder,
            window=context_window(access.lm.model) or sys.maxsize,
            seed=access.seed,
            shots=lambda side: self.pool_records(side, "shots"),
            longest=longest,
            device=model_device(access.lm),
        )


def _answered(populations: Populations) -> dict[str, list[InstructionRecord]]:
    return {
        name: [record for record in records if record.response]
        for name, records in populations.items()
    }


def _encoded_set_hash(records: Records, encoder: RecordEncoder) -> str:
    """Hashes the records and all that decides, beside the tokenizer, which tokens they become."""
    about = [
        record_set_hash(records),
        asdict(encoder.template),
        encoder.max_prompt_tokens,
        encoder.max_tokens,
        asdict(encoder.options),
        encoder.score,
        encoder.special_tokens_in_text,
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
