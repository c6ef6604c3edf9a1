"""Estimates of a plan's cells: parameters, memory of a device, and work."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audits.membership.attacks.base import Attack
from callbacks.audit import AuditCallback
from datamodules.instruction import InstructionDataModule
from kdmodules.responses.source import ResponseSource
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.text_loss import PlainText
from studies.plan.cells import Cell
from studies.plan.settings import Settings, default_of, read_settings
from studies.plan.stages import INIT_OPTION, REFERENCES_OPTION, TEACHER_OPTION
from studies.run.estimates.layout import Layout, UnknownLayoutError, layout_of
from studies.run.estimates.memory import Decoding, TeacherWeights, TrainingRun
from studies.run.estimates.networks import (
    Figures,
    NetworkSpec,
    UnknownNetworkError,
    network_of,
    stored_network,
)
from studies.run.estimates.work import Work, global_batch, work_of

__all__ = ["CellEstimate", "estimate_cells"]


@dataclass(frozen=True)
class CellEstimate:
    """What is known of a cell before it runs.

    Attributes:
        run: What its memory follows from; None where it is unknown.
        unknown: Why something is unknown; empty where all is known.
        work: For the time; None where it is unknown.
        audits: Its audits, as one text: cells with others take another time.
    """

    run: TrainingRun | None
    unknown: str
    work: Work | None
    audits: str


def estimate_cells(cells: tuple[Cell, ...]) -> dict[str, CellEstimate]:
    """Estimates all cells of a plan.

    Args:
        cells: Each after what it needs.

    Returns:
        Estimates by the cells' ids.

    Raises:
        UserError: A setting that an estimate reads cannot be what it is.
    """
    settings = read_settings(cells)
    known: dict[str, NetworkSpec] = {}
    estimates = {}
    for cell in cells:
        run, unknown, work = None, "", None
        try:
            known[cell.id] = _own_network(cell, settings[cell.id], known)
            run = _training_run(cell, settings[cell.id], known)
            asked = settings[cell.id].number("model.reduction.kd_ratio", 1.0) > 0
            work = work_of(settings[cell.id], run.student, run.teachers if asked else ())
        except (UnknownNetworkError, UnknownLayoutError) as error:
            unknown = str(error)
        audits = str(settings[cell.id].listed("trainer.callbacks"))
        estimates[cell.id] = CellEstimate(run, unknown, work, audits)
    return estimates


def _own_network(cell: Cell, settings: Settings, known: Mapping[str, NetworkSpec]) -> NetworkSpec:
    upstream = cell.needs.get(INIT_OPTION, ())
    if upstream and upstream[0] not in known:
        raise UnknownNetworkError(f"that of {upstream[0]}, where it starts from, is unknown")
    return network_of(settings, known[upstream[0]] if upstream else None)


def _teachers(
    cell: Cell, settings: Settings, known: Mapping[str, NetworkSpec]
) -> tuple[NetworkSpec, ...]:
    if TEACHER_OPTION not in cell.needs:
        return tuple(stored_network(str(one)) for one in settings.listed(TEACHER_OPTION))
    needed = cell.needs[TEACHER_OPTION]
    for name in needed:
        if name not in known:
            raise UnknownNetworkError(f"that of its teacher {name} is unknown")
    return tuple(known[name].merged() for name in needed)


def _training_run(cell: Cell, settings: Settings, known: Mapping[str, NetworkSpec]) -> TrainingRun:
    student, layout = known[cell.id].figures(), layout_of(settings)
    teachers = tuple(one.figures() for one in _teachers(cell, settings, known))
    accumulate = settings.count("trainer.accumulate_grad_batches", 1)
    tokens = settings.count("data.max_tokens", default_of(InstructionDataModule, "max_tokens"))
    records = math.ceil(global_batch(settings) / (layout.devices * accumulate))
    audits = [Settings({"audit": entry}) for entry in settings.listed("trainer.callbacks")]
    default = default_of(AuditCallback, "max_batch_tokens")
    sizes = [one.count("audit.max_batch_tokens", default) for one in audits]
    kinds = [one.named_class("audit", AuditCallback) for one in audits]  # type: ignore[type-abstract]
    return TrainingRun(
        student=student,
        teachers=teachers,
        layout=layout,
        records=records,
        tokens=tokens,
        text_tokens=_text_tokens(settings, records),
        checkpointed=bool(settings.get("model.network.activation_checkpointing", False)),
        writing=_writing(settings, records, student, teachers),
        audit_tokens=max([*sizes, tokens]) if sizes else 0,
        audit_writes=any(kind is not None and kind.writes for kind in kinds),
        reference=_reference_size(cell, settings, audits, known),
        teacher_weights=_teacher_weights(settings, layout),
    )


def _text_tokens(settings: Settings, records: int) -> int:
    """Returns the tokens of the largest part: blocks are dealt as the records are."""
    if settings.number("model.lm_coef", 0.0) == 0:
        return 0
    return records * settings.count("model.plain_text.block_tokens", PlainText("").block_tokens)


def _teacher_weights(settings: Settings, layout: Layout) -> TeacherWeights:
    sharded = settings.get("model.teacher_weights.sharded")
    if sharded is None:
        sharded = layout.strategy == "fsdp2"
    half = settings.text("model.teacher_weights.precision", "float32") == "bfloat16"
    return TeacherWeights(
        bytes=2 if half else 4,
        shards=layout.devices if sharded else 1,
        offloaded=bool(settings.get("model.teacher_weights.offload", False)),
        cached=settings.get("model.teacher_cache") is not None,
    )


def _writing(
    settings: Settings, records: int, student: Figures, teachers: tuple[Figures, ...]
) -> Decoding | None:
    """Returns who writes responses, how many at once and how long."""
    source = settings.named_class("model.responses", ResponseSource)  # type: ignore[type-abstract]
    if source is None or not source.writers:
        return None
    parameters = inspect.signature(source).parameters
    together = records
    if "sampling_batch_size" in parameters:
        default = default_of(source, "sampling_batch_size")
        together = settings.count("model.responses.sampling_batch_size", default)
    if source.writers == ("student",):
        together = min(together, records)
    options = "model.responses." + ("mixture" if "mixture" in parameters else "sampling")
    if settings.text(f"{options}.decoding") == "beam":
        together *= settings.count(f"{options}.beams", SamplingSettings.beams)
    new = settings.count(f"{options}.max_new_tokens", SamplingSettings.max_new_tokens)
    prompt = settings.count(
        "data.max_prompt_tokens", default_of(InstructionDataModule, "max_prompt_tokens")
    )
    networks = {"student": (student,), "teacher": teachers}
    writers = tuple(one for writer in source.writers for one in networks[writer])
    return Decoding(together * (prompt + new), writers)


def _reference_size(
    cell: Cell, settings: Settings, audits: Sequence[Settings], known: Mapping[str, NetworkSpec]
) -> int:
    """Returns the parameters of the largest reference model of the audits whose size is known."""
    attacks = [
        Settings({"attack": entry}).named_class("attack", Attack)  # type: ignore[type-abstract]
        for audit in audits
        for entry in audit.listed("audit.attacks")
    ]
    if not any(attack is not None and attack.compares_models for attack in attacks):
        return 0
    options = [option for option in cell.needs if option.startswith(REFERENCES_OPTION)]
    names = [name for option in options for name in cell.needs[option]]
    sizes = [known[name].figures().parameters for name in names if name in known]
    if settings.get("model.network.source") is not None:
        sizes.append(known[cell.id].merged().figures().parameters)
    return max(sizes, default=0)
