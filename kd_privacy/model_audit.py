"""`kd_privacy.audit`: the audit of a model that was trained elsewhere, without a run folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import Progress
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from audits.blocks.audit import audit_blocks
from audits.blocks.signals import BlockSignal, LogitLens, ResidualNorm
from audits.context import (
    AuditContext,
    Measurements,
    SharedWork,
    require_distinct,
    require_sizes,
)
from audits.development_loss import guess_rows
from audits.known_text import AUDIT as KNOWN_TEXT
from audits.membership.attacks import Attack, Loss, MinK, MinKPlusPlus, Reference, Zlib
from audits.membership.audit import audit_membership
from audits.membership.metrics import DEFAULT_FPRS
from audits.memorization.audit import audit_memorization, default_metrics
from audits.memorization.metrics import MemorizationMetric
from audits.scoring.blind_baseline import BlindOptions
from audits.scoring.model_access import ModelAccess
from audits.scoring.model_access import Progress as BarOpener
from audits.scoring.references import BASE, ReferenceModel
from common.errors import UserError
from common.ranks import Ranks
from datamodules.batches import RecordEncoder
from datamodules.external_populations import ExternalPopulations
from datamodules.tokenizer import altered_text_warning, load_tokenizer
from kd_privacy.given_records import Records, given_records
from kd_privacy.model_warnings import model_warnings
from kd_privacy.result import Audit
from kdmodules.models.blueprint import realise, source_blueprint
from kdmodules.models.causal_lm import CausalLM, model_device
from kdmodules.models.families import activations_kept, context_window, family_of
from kdmodules.models.modes import evaluation_mode

Model = PreTrainedModel | str | Path
"""A transformers model, or what `--model.source` takes: a folder or a hub name."""

Chosen = TypeVar("Chosen", Attack, MemorizationMetric, BlockSignal)

_NEAR_DUPLICATES = 0.7


def audit(
    model: Model,
    tokenizer: PreTrainedTokenizerBase | str | Path | None,
    members: Records,
    nonmembers: Records,
    *,
    template: str = "alpaca",
    score: str = "assistant",
    attacks: Sequence[Attack] | None = None,
    memorization: bool | Sequence[MemorizationMetric] = False,
    blocks: bool | Sequence[BlockSignal] = False,
    reference: Model | Mapping[str, Model] | None = None,
    default_task: str | None = None,
    max_prompt_tokens: int = 256,
    max_tokens: int = 512,
    max_records: int | None = None,
    batch_size: int = 64,
    max_batch_tokens: int = 8192,
    level: float = 0.95,
    seed: int = 0,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> Audit:
    """Measures how well the members of a model's training data can be told from other records.

    It is the audit of ``kd-privacy validate -c audits/external`` and gives its numbers. A model
    that is handed over stays where it is, computes in the precision of its weights, of which a
    warning tells below float32, and is afterwards as it was.

    Args:
        model: The model under audit, of the family gpt2, opt or llama.
        tokenizer: Its tokenizer, or where that is; None takes the one beside a model's files.
        members: Records that the model was trained on.
        nonmembers: Records from the same distribution that it never saw.
        template: How a record becomes a prompt: alpaca.
        score: Which tokens are scored: those of the assistant, the response and its end.
        attacks: Membership attacks; None takes loss, zlib, min-k and min-k++, and with a reference
            the reference attack.
        memorization: Whether to measure what the model writes of its records by itself, or by which
            metrics.
        blocks: Whether to ask every transformer block (logit lens, residual norm), or by which
            signals.
        reference: A model that attacks compare with, known to them as ``base``, or several by name.
            One that is handed over reads the tokens of the audited model; one with a tokenizer of
            its own is named by its folder.
        default_task: Task of rows without a category.
        max_prompt_tokens: Most tokens of a prompt; longer ones lose context, then instruction.
        max_tokens: Most tokens of prompt, response and end together.
        max_records: Most records of a side, the first ones.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
        level: Level of the intervals of ``audit["loss"].auroc``; those in the tables are at 0.95.
        seed: Seed of everything random.
        progress: Whether to show bars on standard error.
        device: Where a model that is named by its source is loaded; None takes an accelerator where
            there is one.

    Returns:
        Verdicts, estimates and tables.

    Raises:
        UserError: A model, record or option that cannot be audited, in one line.
        FloatingPointError: Naming the record whose score is not a number.
    """
    _refuse_options(template, score, level)
    require_sizes(max_records, batch_size, max_batch_tokens)
    if device is not None and isinstance(model, PreTrainedModel):
        raise UserError(f"device is {device} and the model is given: move it, model.to({device!r})")
    references = reference if isinstance(reference, Mapping) else {BASE: reference}
    references = {name: named for name, named in references.items() if named is not None}
    chosen = _attacks(references) if attacks is None else _listed("attacks", attacks, Attack)
    with ExitStack() as stack:
        data = ExternalPopulations()
        data.fill(
            given_records(members, "members", default_task),
            given_records(nonmembers, "nonmembers", default_task),
            (_named(members, "members"), _named(nonmembers, "nonmembers")),
            _NEAR_DUPLICATES,
        )
        data.encoder = RecordEncoder(
            _tokenizer(model, tokenizer),
            max_prompt_tokens=max_prompt_tokens,
            max_tokens=max_tokens,
        )
        lm = stack.enter_context(_ready(model, data.encoder, device))
        context = AuditContext(
            ModelAccess(
                lm,
                data.encoder,
                Ranks(),
                batch_size,
                max_batch_tokens,
                seed,
                stack.enter_context(_bars(progress)),
            ),
            data,
            load_reference=lambda name: _reference(references, name, context, stack),
            pool_records=data.by_role,
            shared=SharedWork(),
            max_records=max_records,
        )
        stack.enter_context(torch.no_grad())
        found = _measure(context, chosen, _metrics(memorization), _signals(blocks))
        told = model_warnings(lm.model, references)
        altered = altered_text_warning(data.encoder.tokenizer)
        told += [] if altered is None else [altered]
    shift_tests = context.shared.shift_tests.values()
    warnings = [test.message for test in shift_tests if test.message is not None]
    warnings += told
    identity = {"run": "audit", "role": "external", "seed": seed, "step": 0}
    return Audit.of(found, identity, level, warnings)


def _refuse_options(template: str, score: str, level: float) -> None:
    if template != "alpaca":
        raise UserError(f"template is {template!r}: alpaca is the one that an audit knows")
    if score != "assistant":
        raise UserError(f"score is {score!r}: what is scored is the response of the assistant")
    if not 0.0 < level < 1.0:
        raise UserError(f"level is {level}: give a confidence level between 0 and 1, such as 0.95")


def _attacks(references: Mapping[str, object]) -> list[Attack]:
    return [Loss(), Zlib(), MinK(), MinKPlusPlus(), *(Reference(name) for name in references)]


def _metrics(memorization: bool | Sequence[MemorizationMetric]) -> list[MemorizationMetric]:
    if isinstance(memorization, bool):
        return default_metrics() if memorization else []
    return _listed("memorization", memorization, MemorizationMetric)


def _signals(blocks: bool | Sequence[BlockSignal]) -> list[BlockSignal]:
    if isinstance(blocks, bool):
        return [LogitLens(), ResidualNorm()] if blocks else []
    return _listed("blocks", blocks, BlockSignal)


def _listed(option: str, given: Sequence[Chosen], kind: type) -> list[Chosen]:
    """Returns what an option names.

    Raises:
        UserError: It is no list, or names something else, nothing, or one thing twice.
    """
    if not isinstance(given, list | tuple):
        raise UserError(f"{option} is {given!r}: give a list of {kind.__name__} objects")
    for measure in given:
        if not isinstance(measure, kind):
            raise UserError(f"{option} names {measure!r}, which is no {kind.__name__} object")
    require_distinct(option, given)
    return list(given)


def _named(records: Records, side: str) -> str:
    return str(records) if isinstance(records, str | Path) else side


def _tokenizer(
    model: Model, tokenizer: PreTrainedTokenizerBase | str | Path | None
) -> PreTrainedTokenizerBase:
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return tokenizer
    if tokenizer is None and isinstance(model, PreTrainedModel):
        raise UserError("tokenizer is None: give the tokenizer of the audited model")
    return load_tokenizer(str(model if tokenizer is None else tokenizer))


@contextmanager
def _ready(
    model: Model, encoder: RecordEncoder, device: str | torch.device | None
) -> Iterator[CausalLM]:
    """Yields a model ready to be scored; one that was handed over is then put back as it was.

    Raises:
        UserError: If it is of no known family, cannot be loaded, or its window is too short.
    """
    if isinstance(model, PreTrainedModel):
        family_of(model)
        with activations_kept(model), evaluation_mode(model):
            yield _fitting(CausalLM(model, len(encoder.tokenizer)), encoder)
        return
    if not isinstance(model, str | Path):
        raise UserError(
            f"model is a {type(model).__name__}: give a transformers model, a folder or a hub name"
        )
    lm = realise(source_blueprint(str(model)), len(encoder.tokenizer)).eval()
    yield _fitting(lm.to(device or torch.accelerator.current_accelerator() or "cpu"), encoder)


def _fitting(lm: CausalLM, encoder: RecordEncoder) -> CausalLM:
    if context_window(lm.model) < encoder.max_tokens:
        raise UserError(
            f"max_tokens is {encoder.max_tokens} but the model's window is "
            f"{context_window(lm.model)} tokens: lower max_tokens"
        )
    encoder.limit_rows(lm.vocabulary_size)
    return lm


def _reference(
    references: Mapping[str, Model], name: str, context: AuditContext, stack: ExitStack
) -> ReferenceModel:
    if name not in references:
        known = ", ".join(sorted(references)) or "none"
        raise UserError(f"an attack reads the reference model {name!r}; reference names {known}")
    model, encoder = references[name], context.model.encoder
    if isinstance(model, str | Path):
        reference = ReferenceModel.of_source(str(model), encoder)
        reference.lm.requires_grad_(False).eval().to(model_device(context.model.lm))
        return reference
    return ReferenceModel(stack.enter_context(_ready(model, encoder, None)), encoder)


def _measure(
    context: AuditContext,
    attacks: Sequence[Attack],
    metrics: Sequence[MemorizationMetric],
    signals: Sequence[BlockSignal],
) -> dict[str, Measurements]:
    """Returns what each audit found, by its name in the results table."""
    blind = BlindOptions()
    found = {
        "membership": audit_membership(context, attacks, None, DEFAULT_FPRS, blind, named=True)
    }
    if metrics:
        found["memorization"] = audit_memorization(context, metrics, None, baselines=None)
    if signals:
        found["blocks"] = audit_blocks(context, signals, None, blind)
    found[KNOWN_TEXT] = Measurements(results=guess_rows(context))
    return found


@contextmanager
def _bars(shown: bool) -> Iterator[BarOpener]:
    """Yields what opens a named bar; all of them stand in one display, which goes when it ends."""
    display = Progress(console=Console(stderr=True), transient=True, disable=not shown)

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Callable[[], None]]:
        task = display.add_task(title, total=total)
        try:
            yield lambda: display.advance(task)
        finally:
            display.remove_task(task)

    with display:
        yield bar
