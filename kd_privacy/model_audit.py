"""`kd_privacy.audit`: the audit of a model that was trained elsewhere, without a run folder."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from audits.blocks.signals import BlockSignal
from audits.membership.attacks import Attack
from audits.memorization.metrics import MemorizationMetric
from audits.spans.options import SpanOptions
from datamodules.detected_pii import Detector
from datamodules.encoding import Scored
from kd_privacy.audit_options import AuditOptions
from kd_privacy.audit_session import AuditSession
from kd_privacy.given_records import Records
from kd_privacy.opened_models import Model, Tokenizer
from kd_privacy.result import Audit
from kdmodules.models.pretrained import DeviceMap, Dtype


def audit(
    model: Model,
    tokenizer: Tokenizer | None,
    members: Records,
    nonmembers: Records,
    *,
    never: Records | None = None,
    template: str | None = None,
    score: Scored = "assistant",
    attacks: Sequence[Attack] | None = None,
    memorization: bool | Sequence[MemorizationMetric] | None = False,
    blocks: bool | Sequence[BlockSignal] | None = False,
    utility: bool | None = False,
    spans: bool | SpanOptions = False,
    reference: Model | Mapping[str, Model] | None = None,
    default_task: str | None = None,
    detect_pii: Detector | None = None,
    columns: Mapping[str, str] | None = None,
    dtype: Dtype = "float32",
    max_prompt_tokens: int = 256,
    max_tokens: int = 512,
    max_records: int | None = None,
    batch_size: int = 64,
    max_batch_tokens: int = 8192,
    level: float = 0.95,
    seed: int = 0,
    progress: bool = True,
    device: str | torch.device | None = None,
    adapter_base: str | Mapping[str, str] | None = None,
    device_map: DeviceMap | None = None,
    drift: bool = False,
    pseudonymise: bool | str | Path = False,
) -> Audit:
    """Measures how well the members of a model's training data can be told from other records.

    It is what ``kd-privacy audit`` calls, and gives the numbers of ``kd-privacy validate -c
    audits/external``. A model that is handed over stays where it is, computes in the precision of
    its weights, of which a warning tells below float32, and is afterwards as it was.

    Args:
        model: The model under audit, any causal language model of transformers.
        tokenizer: Its tokenizer, or where that is; None takes the one beside a model's files.
        members: Records that the model was trained on.
        nonmembers: Records from the same distribution that it never saw.
        never: Further records that it never saw, as a second baseline of what it writes.
        template: How a record becomes a prompt: alpaca; chat, the tokenizer's own template; none;
            or a Jinja file. None takes chat for messages and none for texts.
        score: Which tokens are scored: assistant, all turns of the assistant with their ends; last,
            its last one; all, everything.
        attacks: Membership attacks; None takes loss, zlib, min-k and min-k++, and with a reference
            the reference attack.
        memorization: Whether to measure what the model writes of its records by itself, or by which
            metrics; here and below, None asks for it where it can be had, and notes where not.
        blocks: Whether to ask every transformer block (logit lens, residual norm), or by which
            signals.
        utility: Whether to measure perplexity, on the records of ``never`` or the non-members.
        spans: Whether to measure how likely the sensitive spans of records come out, which records
            of every side then need; or how, as `audits.spans.options.SpanOptions`.
        reference: A model that attacks compare with, known to them as ``base``, or several by name.
            One that is handed over reads the tokens of the audited model; one with a tokenizer of
            its own is named by its folder.
        default_task: Task of rows without a category.
        detect_pii: presidio marks what its patterns recognise in responses as sensitive.
        columns: Fields of a record that have other names in the rows -> those names, such as
            ``{"response": "answer"}``.
        dtype: Type of the weights of a model that is named by its source: float32, bfloat16, or
            auto, as they are stored.
        max_prompt_tokens: Most tokens of a prompt; longer ones lose context, then instruction.
        max_tokens: Most tokens of prompt, response and end together.
        max_records: Most records of a side, the first ones.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
        level: Level of the intervals of ``audit["loss"].auroc``; those in the tables are at 0.95.
        seed: Seed of everything random.
        progress: Whether to say on standard error what is done, and how long it may take.
        device: Where a model that is named by its source is loaded; None takes an accelerator where
            there is one.
        adapter_base: Base of a LoRA adapter, in place of the one that its folder names; of several
            by name: ``model`` and those of the references.
        device_map: Which devices hold which modules of a model larger than one, as accelerate takes
            it, such as ``auto``.
        drift: Whether to measure, on 64 records, how far the scores lie from those that float32
            weights give; the model is then loaded a second time.
        pseudonymise: Whether records are named by a keyed hash, whose key is saved in private/; or
            the file of a key, which ends in .key. Otherwise by the hash of what they say.

    Returns:
        Verdicts, estimates and tables.

    Raises:
        UserError: A model, record or option that cannot be audited, in one line.
        FloatingPointError: Naming the record whose score is not a number.
    """
    options = AuditOptions.among(locals())
    options.require_models({"model": model})
    loading = options.loading("model", model)
    with ExitStack() as stack:
        session = AuditSession(options, stack)
        session.read(members, nonmembers, never)
        audited = session.open("audit", model, session.encoder(model, tokenizer, loading), loading)
        session.announce([audited])
        return session.result(audited, "external")
