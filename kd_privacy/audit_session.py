"""One audit from Python or the command: its records, its models, what is said, what is measured."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from audits.blocks.audit import audit_blocks, check_blocks
from audits.context import AuditContext, Measurements, SharedWork
from audits.development_loss import guess_rows
from audits.guarantee import AUDIT as GUARANTEE
from audits.guarantee import guarantee_rows
from audits.known_text import AUDIT as KNOWN_TEXT
from audits.membership.audit import audit_membership, check_membership, tested_for_shift
from audits.membership.measurements import NEVER
from audits.membership.metrics import DEFAULT_FPRS
from audits.membership.plan import AuditPlan
from audits.memorization.audit import audit_memorization, check_memorization
from audits.precision_drift import AUDIT as PRECISION
from audits.precision_drift import drift_note, drift_row
from audits.rows import Audit as AuditName
from audits.scoring.blind_baseline import BlindOptions
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from audits.spans.audit import audit_spans, check_spans, spans_cost
from audits.utility.audit import audit_utility
from common.errors import UserError
from common.guarantee import of_source
from common.progress import OneBar, duration
from common.ranks import Ranks
from datamodules.batches import RecordEncoder
from datamodules.detected_pii import with_detected
from datamodules.external_populations import ExternalPopulations
from datamodules.record_names import RecordNames
from datamodules.templates import chosen_template, template_name
from kd_privacy.audit_options import AuditOptions
from kd_privacy.audit_progress import device_line, model_line, pass_seconds
from kd_privacy.audited_model import AuditedModel, comparable, dtype_of, possible
from kd_privacy.given_records import Records, given_records
from kd_privacy.opened_models import (
    Loading,
    Model,
    Tokenizer,
    name_of,
    opened,
    opened_reference,
    tokenizer_of,
)
from kd_privacy.record_load import Load
from kd_privacy.result import Audit
from kdmodules.models.causal_lm import CausalLM, model_device

_NEAR_DUPLICATES = 0.7
_BLIND = BlindOptions()


class AuditSession:
    """Reads records once, opens models, says what will be done, and does it.

    Args:
        options: What is asked.
        stack: Closes models and bars at the end.
    """

    def __init__(self, options: AuditOptions, stack: ExitStack) -> None:
        self.options = options
        self.data = ExternalPopulations()
        self.names = RecordNames.of(options.pseudonymise, None)
        self.sources: dict[str, str] = {}
        self._stack = stack
        self._progress = OneBar(options.progress)
        self._shared = SharedWork()
        self._references: dict[str, ReferenceModel] = {}
        stack.enter_context(torch.no_grad())

    def read(self, members: Records, nonmembers: Records, never: Records | None) -> None:
        """Reads the records of all sides.

        Raises:
            UserError: Records that cannot be read, or one on two sides.
        """
        named = {"members": members, "nonmembers": nonmembers}
        named |= {} if never is None else {"never": never}
        self.sources = {side: name_of(records, side) for side, records in named.items()}
        _require_different(named)
        options = (self.options.default_task, self.options.columns)
        sides = [
            self.names.renamed(
                with_detected(given_records(records, side, *options), self.options.detect_pii)
            )
            for side, records in named.items()
        ]
        self.data.fill(
            sides[0],
            sides[1],
            list(self.sources.values()),
            _NEAR_DUPLICATES,
            sides[2] if never is not None else None,
        )

    def encoder(self, model: Model, tokenizer: Tokenizer | None, loading: Loading) -> RecordEncoder:
        """Returns what turns the records into a model's tokens; no weight is read.

        Raises:
            UserError: No tokenizer, or no such template.
        """
        found = tokenizer_of(model, tokenizer, loading.adapter_base)
        records = [record for name in self.data.names for record in self.data.population(name)]
        return RecordEncoder(
            found,
            chosen_template(self.options.template, records, found),
            max_prompt_tokens=self.options.max_prompt_tokens,
            max_tokens=self.options.max_tokens,
            score=self.options.score,
        )

    def load(self, encoder: RecordEncoder) -> Load:
        """Counts what the audited records come to in a model's tokens."""
        limit = self.options.max_records
        counted = [Load.of(self.data.population(name)[:limit], encoder) for name in self.data.names]
        return sum(counted[1:], counted[0])

    def open(
        self,
        run: str,
        model: Model,
        encoder: RecordEncoder,
        loading: Loading,
        teacher: AuditedModel | None = None,
    ) -> AuditedModel:
        """Opens a model and checks, before any forward pass, what can be measured of it.

        Args:
            run: What it is called in every table.
            model: The model, or where it is.
            encoder: Text to its tokens.
            loading: Of a model that is named.
            teacher: Whom it is compared with for its utility.

        Raises:
            UserError: The model cannot be loaded, or something named cannot be measured.
        """
        options = self.options
        load = self.load(encoder)
        lm = self._stack.enter_context(opened(model, encoder, loading))
        data = copy(self.data)
        data.forget_tokens()
        data.encoder = encoder
        references: dict[str, ReferenceModel] = {}
        context = AuditContext(
            ModelAccess(
                lm,
                encoder,
                Ranks(),
                options.batch_size,
                options.max_batch_tokens,
                options.seed,
                self._progress.bar,
            ),
            data,
            load_reference=references.__getitem__,
            reference_tokenizer=lambda name: references[name].encoder.tokenizer,
            pool_records=data.by_role,
            shared=SharedWork(shift_tests=self._shared.shift_tests),
            max_records=options.max_records,
        )
        attacks = options.chosen_attacks
        for name in AuditPlan.of(attacks).references:
            references[name] = self._reference(name, encoder, lm)
        check_membership(context, attacks, None)
        audits, notes = possible(self._checks(context), options)
        teachers, told = comparable(teacher, encoder, options.utility)
        source = name_of(model, type(model).__name__)
        in_memory = not isinstance(model, str | Path)
        exact = replace(loading, dtype="float32") if options.drift else None
        notes = [*notes, *told]
        return AuditedModel(run, source, in_memory, context, load, audits, teachers, notes, exact)

    def _reference(self, name: str, encoder: RecordEncoder, lm: CausalLM) -> ReferenceModel:
        references = self.options.references
        if name not in references:
            known = ", ".join(sorted(references)) or "none"
            raise UserError(
                f"an attack reads the reference model {name!r}; reference names {known}"
            )
        if name not in self._references:
            loading = self.options.loading(name, references[name])
            place = replace(loading, device=model_device(lm))
            opened_one = opened_reference(references[name], encoder, place)
            self._references[name] = self._stack.enter_context(opened_one)
        found = self._references[name]
        handed_over = isinstance(references[name], PreTrainedModel)
        return replace(found, encoder=encoder) if handed_over else found

    def _checks(self, context: AuditContext) -> Mapping[str, Callable[[], object]]:
        return {
            AuditName.memorization: lambda: check_memorization(context, None, None),
            AuditName.blocks: lambda: check_blocks(context, self.options.signals, None),
            AuditName.utility: lambda: context.require_responses(self._utility_population),
            AuditName.spans: lambda: check_spans(context, None, None),
        }

    @property
    def _utility_population(self) -> str:
        return NEVER if self.data.has(NEVER) else "held_out"

    def announce(self, models: Sequence[AuditedModel]) -> None:
        """Says what will be audited, and how long it may take; the blind gate comes first.

        Nothing is said, and no batch is timed, where no progress is shown.
        """
        if not self.options.progress:
            return
        say = self._progress.say
        for audited in models:
            say(audited.run, model_line(audited))
        say("records", self.records_line(models[0].load))
        template = template_name(models[0].context.model.encoder.template)
        say("template", f"{template}; scored are the tokens of the {self.options.score}")
        say("device", "; ".join(dict.fromkeys(map(device_line, models))))
        for audited in models:
            for note in audited.notes:
                say("left out", f"{audited.run}: {note}")
        for audited in models:
            if AuditName.spans in audited.audits:
                cost = spans_cost(audited.context, self.options.span_options, None, None)
                say("spans", f"{audited.run}: {cost}")
        tested = tested_for_shift(models[0].context, None, _BLIND)["external"]
        alike = (
            "a classifier that sees only the text does not tell members from non-members "
            f"(AUROC {tested.verdict.auroc:.3f})"
        )
        say("blind gate", f"no coin dealt the sides: {tested.message or alike}")
        say("time", self._expected(models))

    def records_line(self, load: Load) -> str:
        """Returns the numbers of records, what was skipped and what was cut."""
        limit = self.options.max_records
        counts = [
            f"{len(self.data.population(name)[:limit])} {side} ({source})"
            for name, (side, source) in zip(self.data.names, self.sources.items(), strict=True)
        ]
        left = f"{load.empty} without a response are skipped, {load.cut} cut"
        return f"{', '.join(counts)}; {left}" + (
            f", {load.merged} with a token over the prompt's end" if load.merged else ""
        )

    def _expected(self, models: Sequence[AuditedModel]) -> str:
        """Says how long the passes may take, from one small batch of each model."""
        seconds = passes = 0.0
        for audited in models:
            own = AuditPlan.of(self.options.chosen_attacks).passes
            own += (AuditName.memorization in audited.audits) + 2 * len(audited.teachers)
            own += 2 * (AuditName.blocks in audited.audits)
            seconds += own * pass_seconds(audited)
            passes += own
        written = any(AuditName.memorization in audited.audits for audited in models)
        more = ", and what memorization has to write" if written else ""
        return f"{passes:g} passes over the records, about {duration(seconds)}{more}"

    def measure(self, audited: AuditedModel) -> dict[str, Measurements]:
        """Returns what each audit of a model found, by its name in the results table."""
        context, options = audited.context, self.options
        found = {
            str(AuditName.membership): audit_membership(
                context, options.chosen_attacks, None, DEFAULT_FPRS, _BLIND, named=True
            )
        }
        if AuditName.memorization in audited.audits:
            found[AuditName.memorization] = audit_memorization(context, options.metrics, None, None)
        if AuditName.spans in audited.audits:
            found[AuditName.spans] = audit_spans(context, options.span_options, None, None)
        if AuditName.blocks in audited.audits:
            found[AuditName.blocks] = audit_blocks(context, options.signals, None, _BLIND)
        if AuditName.utility in audited.audits:

            def teachers() -> AbstractContextManager[Sequence[CausalLM]]:
                return nullcontext(audited.teachers)

            found[AuditName.utility] = audit_utility(
                context,
                self._utility_population,
                max_prompts=0,
                max_new_tokens=None,
                samples=0,
                teachers=teachers if audited.teachers else None,
            )
        found[KNOWN_TEXT] = Measurements(results=guess_rows(context))
        told = None if audited.in_memory else of_source(audited.source)
        found[GUARANTEE] = Measurements(results=guarantee_rows(told, None))
        if audited.exact is not None:
            with opened(audited.source, context.model.encoder, audited.exact) as exact:
                drift = drift_row(context, exact, dtype_of(context.model.lm))
            found[PRECISION] = Measurements(results=[drift])
            self._progress.say("drift", f"{audited.run}: {drift_note(drift)}")
        return found

    def result(self, audited: AuditedModel, role: str) -> Audit:
        """Measures a model and puts together what was found.

        Args:
            audited: The model.
            role: What it is in the tables.
        """
        identity = {"run": audited.run, "role": role, "seed": self.options.seed, "step": 0}
        found, options = self.measure(audited), self.options
        about = audited.tested(options, self.sources, identity)
        told = audited.warnings(options, found[AuditName.membership].results)
        told += [drift_note(row) for row in found[PRECISION].results] if options.drift else []
        return Audit.of(found, identity, options.level, told, about, self.names)


def _require_different(named: Mapping[str, Records]) -> None:
    """Refuses one source under two names.

    Raises:
        UserError: Naming both.
    """
    seen: dict[str, str] = {}
    for side, records in named.items():
        source = name_of(records, "")
        if source and source in seen:
            both = f"{seen[source]} and {side} are both {source}"
            raise UserError(f"{both}: give two sets of records")
        seen[source] = side
