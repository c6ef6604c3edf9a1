"""One model under audit: what can be measured of it, and what must be known of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from audits.answer.tested import described_run, record_sets, weights_identity
from audits.context import AuditContext
from audits.record_counts import counts_note
from audits.rows import ResultRow
from audits.template_check import template_warning
from common.errors import UserError
from datamodules.batches import RecordEncoder
from datamodules.tokenizer import altered_text_warning, vocabulary_hash
from kd_privacy.audit_options import AuditOptions
from kd_privacy.model_warnings import model_warnings
from kd_privacy.opened_models import Loading, name_of
from kd_privacy.record_load import Load
from kdmodules.models.causal_lm import CausalLM


@dataclass(frozen=True)
class AuditedModel:
    """A model under audit, with what was found to be possible on it.

    Attributes:
        run: What it is called in every table: audit, student, teacher, counterfactual.
        source: Where it is, or what it is.
        in_memory: Whether it was handed over and not named.
        context: The model and its records.
        load: What its records come to in its tokens.
        audits: The audits that run beside membership.
        teachers: Models that its distributions are compared with.
        notes: What was left out of its audits, and why.
        exact: How the same model is loaded in float32, where its drift from that is asked for.
    """

    run: str
    source: str
    in_memory: bool
    context: AuditContext
    load: Load
    audits: frozenset[str]
    teachers: Sequence[CausalLM]
    notes: Sequence[str]
    exact: Loading | None = None

    def warnings(self, options: AuditOptions, rows: Sequence[ResultRow]) -> list[str]:
        """Returns what a reader must know of the model and its records before any figure.

        Args:
            options: Of the audit.
            rows: What the membership audit found.
        """
        tests = self.context.shared.shift_tests.values()
        told = [test.message for test in tests if test.message is not None]
        told += model_warnings(self.context.model.lm.model, options.references)
        altered = altered_text_warning(self.context.model.encoder.tokenizer)
        notes = (altered, template_warning(rows), counts_note(rows))
        return [*told, *(note for note in notes if note is not None), *self.notes]

    def tested(
        self, options: AuditOptions, sources: Mapping[str, str], identity: Mapping[str, object]
    ) -> dict[str, object]:
        """Returns what was tested, in plain values, with the hash of every part of it.

        Args:
            options: Of the audit.
            sources: Where the records of each side are from.
            identity: Columns that all its rows share.
        """
        lm, data = self.context.model.lm, self.context.data
        return described_run(
            identity,
            lm,
            self.context.model.encoder,
            record_sets(data, sources, options.max_records),
            weights_identity(lm, None if self.in_memory else self.source),
            source=self.source,
            coins=data.dealt_by_coins(data.member_population),
            references={
                name: name_of(one, type(one).__name__) for name, one in options.references.items()
            },
        )


def dtype_of(lm: CausalLM) -> str:
    """Returns the type of a model's weights."""
    return str(next(lm.model.parameters()).dtype).removeprefix("torch.")


def possible(
    checks: Mapping[str, Callable[[], object]], options: AuditOptions
) -> tuple[frozenset[str], list[str]]:
    """Returns the audits that can be had, and what was left out, and why.

    Args:
        checks: Of each audit, what raises a UserError where it cannot be had.
        options: What was asked for.

    Raises:
        UserError: One that was asked for by name cannot be had.
    """
    notes, found = [], []
    for name, check in checks.items():
        asked = getattr(options, name)
        if asked is False:
            continue
        try:
            check()
            found.append(name)
        except UserError as error:
            if asked is not None:
                raise
            notes.append(f"{name} is left out: {error}")
    return frozenset(found), notes


def comparable(
    teacher: AuditedModel | None, encoder: RecordEncoder, asked: bool | None
) -> tuple[list[CausalLM], list[str]]:
    """Returns the teacher that a student's distributions can be compared with, or why not.

    Args:
        teacher: The student's teacher.
        encoder: Text to the student's tokens.
        asked: Whether utility was asked for by name.

    Raises:
        UserError: It was, and they cannot be compared.
    """
    if teacher is None or asked is False:
        return [], []
    theirs, own = teacher.context.model.encoder.tokenizer, encoder.tokenizer
    if vocabulary_hash(theirs) == vocabulary_hash(own):
        return [teacher.context.model.lm], []
    reason = (
        f"the teacher's tokenizer ({len(theirs)} tokens) is another than the student's "
        f"({len(own)} tokens), so that their distributions cannot be compared"
    )
    if asked:
        raise UserError(f"utility: {reason}")
    return [], [f"teacher_kl is left out: {reason}"]
