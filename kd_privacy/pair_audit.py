"""`kd_privacy.audit_pair`: what a student inherits from its teacher, both trained elsewhere."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import torch

from audits.blocks.signals import BlockSignal
from audits.membership.attacks import Attack
from audits.membership.measurements import NEVER
from audits.memorization.metrics import MemorizationMetric
from audits.results import SCHEMAS, table_from_rows
from audits.spans.options import SpanOptions
from common.keys import key
from datamodules.detected_pii import Detector
from datamodules.encoding import Scored
from datamodules.external_populations import ExternalPopulations
from kd_privacy.audit_options import AuditOptions
from kd_privacy.audit_session import AuditSession
from kd_privacy.given_records import Records
from kd_privacy.inheritance import inheritance_rows, record_key
from kd_privacy.opened_models import Model, Tokenizer
from kd_privacy.pair_result import PairAudit
from kd_privacy.result import Audit
from kdmodules.models.pretrained import DeviceMap, Dtype

_ALONE = (
    "no counterfactual student (of a teacher that had the non-members for members) was given: what "
    "both models know of a record any model may know, so that no figure says how much came through "
    "the teacher; the swap estimate and what the student writes beyond its counterfactual are not "
    "measured"
)
_SHARE = (
    "relative leakage is a share of what the teacher leaks, not of what a model of the student's "
    "size could leak; it has no interval where the teacher is not told from chance"
)
_SINGLE = (
    "records memorized by both, one or none are counted by what each model writes: one pair of "
    "models cannot tell what is memorized from what is easy, beyond the difference from the other "
    "records"
)
_NON_MEMBERS = (
    "without never-seen records the non-members stand beside the members, in the curves of records "
    "on which the teacher is accurate and in what is memorized"
)


def audit_pair(
    teacher: Model,
    student: Model,
    tokenizer: Tokenizer | None,
    members: Records,
    nonmembers: Records,
    *,
    never: Records | None = None,
    counterfactual: Model | None = None,
    template: str | None = None,
    score: Scored = "assistant",
    attacks: Sequence[Attack] | None = None,
    memorization: bool | Sequence[MemorizationMetric] | None = None,
    blocks: bool | Sequence[BlockSignal] | None = None,
    utility: bool | None = None,
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
) -> PairAudit:
    """Measures what a student gives away of the records that its teacher was trained on.

    It is what ``kd-privacy audit MODEL --teacher T`` calls. Every model is audited as by
    `kd_privacy.audit`, on the same records; beside them stand the figures that compare them
    (`inheritance.inheritance_rows`). All models are in memory at once.

    Args:
        teacher: The teacher: a transformers model, a folder or a hub name.
        student: The student, which never saw the members itself.
        tokenizer: The tokenizer of all models, or where it is; None takes the one beside each
            model's files.
        members: Records that the teacher was trained on.
        nonmembers: Records from the same distribution that neither has seen.
        never: Further records that no model here has seen; with a counterfactual, whose teacher was
            trained on the non-members, the only such records.
        counterfactual: A student that was made in the same way, of a teacher that was trained on
            the non-members in place of the members.
        template: As in `kd_privacy.audit`, like everything that follows; here memorization, blocks
            and utility are measured where they can be had.
        score: Which tokens are scored.
        attacks: Membership attacks.
        memorization: Whether to measure what the models write of records by themselves.
        blocks: Whether to ask every transformer block.
        utility: Whether to measure perplexity and the student's divergence from its teacher.
        spans: Whether to measure how likely the sensitive spans of records come out.
        reference: Models that attacks compare with.
        default_task: Task of rows without a category.
        detect_pii: presidio marks what its patterns recognise in responses as sensitive.
        columns: Names of the records' fields by ours.
        dtype: Type of the weights of models that are named by their source.
        max_prompt_tokens: Most tokens of a prompt.
        max_tokens: Most tokens of prompt, response and end together.
        max_records: Most records of a side.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
        level: Level of the intervals of each attack's ``auroc``.
        seed: Seed of everything random.
        progress: Whether to say on standard error what is done, and how long it may take.
        device: Where models that are named by their source are loaded.
        adapter_base: Base of the LoRA adapters among the models, in place of what their folders
            name, or by name: teacher, student, counterfactual and those of the references.
        device_map: Which devices hold which modules of a model larger than one, as accelerate takes
            it, such as ``auto``.
        drift: Whether to measure, on 64 records, how far the scores lie from those that float32
            weights give; the model is then loaded a second time.
        pseudonymise: Whether records are named by a keyed hash, whose key is saved in private/; or
            the file of a key, which ends in .key. Otherwise by the hash of what they say.

    Returns:
        The audit of every model, and what compares them.

    Raises:
        UserError: A model, record or option that cannot be audited, in one line.
        FloatingPointError: Naming the record whose score is not a number.
    """
    options = AuditOptions.among(locals())
    models = {"teacher": teacher, "student": student}
    models |= {} if counterfactual is None else {"counterfactual": counterfactual}
    options.require_models(models)
    loadings = {name: options.loading(name, model) for name, model in models.items()}
    with ExitStack() as stack:
        session = AuditSession(options, stack)
        session.read(members, nonmembers, never)
        encoders = {
            name: session.encoder(model, tokenizer, loadings[name])
            for name, model in models.items()
        }
        taught = session.open("teacher", teacher, encoders["teacher"], loadings["teacher"])
        opened = {"teacher": taught}
        for name in list(models)[1:]:
            from_teacher = taught if name == "student" else None
            opened[name] = session.open(
                name, models[name], encoders[name], loadings[name], from_teacher
            )
        session.announce(list(opened.values()))
        audits = {name: session.result(one, name) for name, one in opened.items()}
        rows = inheritance_rows(_together(audits), _clusters(session.data), session.data.has(NEVER))
        said = _said(session.data, counterfactual is not None)
    return PairAudit(
        audits["student"],
        audits["teacher"],
        audits.get("counterfactual"),
        table_from_rows("results", rows),
        said,
    )


def _together(audits: Mapping[str, Audit]) -> dict[str, pa.Table]:
    return {
        name: pa.concat_tables([audit.tables[name] for audit in audits.values()])
        for name in SCHEMAS
    }


def _clusters(data: ExternalPopulations) -> dict[str, int]:
    """Returns the number of each record's cluster, by its name while runs are compared."""
    found = {}
    for name in data.names:
        records = data.population(name)
        for record, cluster in zip(records, data.clusters(records), strict=True):
            found[record_key(name, record.id)] = key(cluster)
    return found


def _said(data: ExternalPopulations, counterfactual: bool) -> list[str]:
    """Returns what the comparisons cannot say."""
    said = [_SHARE, _SINGLE]
    said += [] if data.has(NEVER) else [_NON_MEMBERS]
    return [*([] if counterfactual else [_ALONE]), *said]
