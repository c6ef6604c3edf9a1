"""Estimates of a plan's cells: parameters, memory of a device, and work."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from callbacks.audit import AuditCallback
from datamodules.instruction import InstructionDataModule
from kdmodules.responses.rollouts import TeacherMixedRollouts
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.text_loss import PlainText
from studies.plan.cells import Cell
from studies.plan.settings import Settings, default_of, read_settings
from studies.plan.stages import INIT_OPTION, REFERENCES_OPTION, TEACHER_OPTION
from studies.run.estimates.activations import kept_bytes
from studies.run.estimates.layout import Layout, UnknownLayoutError, layout_of
from studies.run.estimates.memory import MemoryEstimate, estimate_memory
from studies.run.estimates.networks import (
    Figures,
    NetworkSpec,
    UnknownNetworkError,
    network_of,
    stored_network,
)
from studies.run.estimates.training_run import Audit, Sampling, TeacherHome, TrainingRun
from studies.run.estimates.work import Work, global_batch, work_of

__all__ = ["CellEstimate", "estimate_cells"]

_BY_STUDENT = ("StudentResponses", "MixedResponses", "BufferedResponses", "AdaptiveReplay")
_BY_TEACHER = "TeacherResponses"
_BY_BOTH = "TeacherMixedRollouts"
_WRITING = ("UtilityAudit", "MemorizationAudit", "TransferAudit", "ReleasedMemorizationAudit")
_REFERRING = ("Reference", "RMIA", "LiRA")


@dataclass(frozen=True)
class CellEstimate:
    """What is known of a cell before it runs.

    Attributes:
        student: The network that it trains; None where its size is unknown.
        teachers: The frozen ones beside it.
        layout: How it lies on its devices.
        batch: Records and tokens of a device's largest micro-batch.
        memory: Of one device; None where it is unknown.
        unknown: Why something is unknown; empty where all is known.
        work: For the time; None where it is unknown.
        audits: Its audits, as one text: cells with others take another time.
    """

    student: Figures | None
    teachers: tuple[Figures, ...]
    layout: Layout | None
    batch: tuple[int, int]
    memory: MemoryEstimate | None
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
        try:
            known[cell.id] = _own_network(cell, settings[cell.id], known)
            estimates[cell.id] = _estimate(cell, settings[cell.id], known)
        except (UnknownNetworkError, UnknownLayoutError) as error:
            audits = str(settings[cell.id].listed("trainer.callbacks"))
            estimates[cell.id] = CellEstimate(
                None, (), None, (0, 0), None, str(error), None, audits
            )
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


def _estimate(cell: Cell, settings: Settings, known: Mapping[str, NetworkSpec]) -> CellEstimate:
    spec, layout = known[cell.id], layout_of(settings)
    student = spec.figures()
    teachers = tuple(one.figures() for one in _teachers(cell, settings, known))
    accumulate = settings.count("trainer.accumulate_grad_batches", 1)
    batch = global_batch(settings)
    tokens = settings.count("data.max_tokens", default_of(InstructionDataModule, "max_tokens"))
    records = math.ceil(batch / (layout.devices * accumulate))
    asked = settings.number("model.reduction.kd_ratio", 1.0) > 0
    run = TrainingRun(
        student=student,
        # Steps on rollouts run without dropout, and keep no mask of it.
        kept=kept_bytes(spec, layout.precision, settings.class_name("model.responses") != _BY_BOTH),
        teachers=teachers,
        layout=layout,
        records=records,
        tokens=tokens,
        text_tokens=_text_tokens(settings, records),
        accumulate=accumulate,
        checkpointed=bool(settings.get("model.network.activation_checkpointing", False)),
        sampling=_sampling(settings, records, student, teachers),
        audit=_audit(cell, settings, tokens, known),
        teacher_home=_home(settings, layout),
    )
    return CellEstimate(
        student=student,
        teachers=teachers,
        layout=layout,
        batch=(records, tokens),
        memory=estimate_memory(run),
        unknown="",
        work=work_of(settings, student, teachers if asked else ()),
        audits=str(settings.listed("trainer.callbacks")),
    )


def _text_tokens(settings: Settings, records: int) -> int:
    """Returns the tokens of the largest part: blocks are dealt as the records are."""
    if settings.number("model.lm_coef", 0.0) == 0:
        return 0
    return records * settings.count("model.plain_text.block_tokens", PlainText("").block_tokens)


def _home(settings: Settings, layout: Layout) -> TeacherHome:
    sharded = settings.get("model.teacher_weights.sharded")
    if sharded is None:
        sharded = layout.strategy == "fsdp2"
    half = settings.text("model.teacher_weights.precision", "float32") == "bfloat16"
    return TeacherHome(
        bytes=2 if half else 4,
        shards=layout.devices if sharded else 1,
        offloaded=bool(settings.get("model.teacher_weights.offload", False)),
        cached=settings.get("model.teacher_cache") is not None,
    )


def _sampling(
    settings: Settings, records: int, student: Figures, teachers: tuple[Figures, ...]
) -> Sampling | None:
    """Returns who writes responses, how many at once and how long."""
    name = settings.class_name("model.responses")
    together = settings.count(
        "model.responses.sampling_batch_size",
        default_of(TeacherMixedRollouts, "sampling_batch_size"),
    )
    options = "model.responses." + ("mixture" if name == _BY_BOTH else "sampling")
    written = settings.count(f"{options}.max_new_tokens", SamplingSettings.max_new_tokens)
    prompt = settings.count(
        "data.max_prompt_tokens", default_of(InstructionDataModule, "max_prompt_tokens")
    )
    beams = 1
    if settings.text(f"{options}.decoding") == "beam":
        beams = settings.count(f"{options}.beams", SamplingSettings.beams)
    if name in _BY_STUDENT:
        return Sampling(min(together, records) * beams, prompt + written, (student,))
    if name == _BY_TEACHER and teachers:
        return Sampling(together * beams, prompt + written, teachers)
    if name == _BY_BOTH:
        return Sampling(together, prompt + written, (student, *teachers))
    return None


def _audit(
    cell: Cell, settings: Settings, tokens: int, known: Mapping[str, NetworkSpec]
) -> Audit | None:
    callbacks = [Settings({"one": entry}) for entry in settings.listed("trainer.callbacks")]
    if not callbacks:
        return None
    default = default_of(AuditCallback, "max_batch_tokens")
    largest = max(one.count("one.max_batch_tokens", default) for one in callbacks)
    attacks = [
        Settings({"one": attack}).class_name("one")
        for one in callbacks
        for attack in one.listed("one.attacks")
    ]
    refers = any(name in _REFERRING for name in attacks)
    return Audit(
        tokens=max(largest, tokens),
        writes=any(one.class_name("one") in _WRITING for one in callbacks),
        reference=_reference_size(cell, settings, known) if refers else 0,
    )


def _reference_size(cell: Cell, settings: Settings, known: Mapping[str, NetworkSpec]) -> int:
    """Returns the parameters of the largest reference model whose size is known."""
    ids = [
        i
        for option, needed in cell.needs.items()
        if option.startswith(REFERENCES_OPTION)
        for i in needed
    ]
    sizes = [known[name].figures().parameters for name in ids if name in known]
    if settings.get("model.network.source") is not None:
        sizes.append(known[cell.id].merged().figures().parameters)
    return max(sizes, default=0)
