"""Estimates of a plan's cells: parameters and memory of a device."""

from collections.abc import Mapping
from dataclasses import dataclass

from studies.plan.cells import Cell
from studies.plan.settings import Settings, read_settings
from studies.plan.stages import INIT_OPTION, TEACHER_OPTION
from studies.run.estimates.layout import Layout, UnknownLayoutError, layout_of
from studies.run.estimates.memory import TeacherWeights, TrainingRun
from studies.run.estimates.networks import (
    NetworkSpec,
    UnknownNetworkError,
    network_of,
    stored_network,
)


@dataclass(frozen=True)
class CellEstimate:
    """What is known of a cell before it runs.

    Attributes:
        run: What its memory follows from; None where it is unknown.
        unknown: Why something is unknown; empty where all is known.
    """

    run: TrainingRun | None
    unknown: str = ""


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
            known[cell.id] = _trained_network(cell, settings[cell.id], known)
            estimates[cell.id] = CellEstimate(_training_run(cell, settings[cell.id], known))
        except (UnknownNetworkError, UnknownLayoutError) as error:
            estimates[cell.id] = CellEstimate(None, str(error))
    return estimates


def _trained_network(
    cell: Cell, settings: Settings, known: Mapping[str, NetworkSpec]
) -> NetworkSpec:
    upstream = cell.needs.get(INIT_OPTION, ())
    if upstream and upstream[0] not in known:
        raise UnknownNetworkError(f"that of {upstream[0]}, where it starts from, is unknown")
    return network_of(settings, known[upstream[0]] if upstream else None)


def _teachers(
    cell: Cell, settings: Settings, known: Mapping[str, NetworkSpec]
) -> tuple[NetworkSpec, ...]:
    if TEACHER_OPTION not in cell.needs:
        return tuple(stored_network(str(source)) for source in settings.listed(TEACHER_OPTION))
    needed = cell.needs[TEACHER_OPTION]
    for name in needed:
        if name not in known:
            raise UnknownNetworkError(f"that of its teacher {name} is unknown")
    return tuple(known[name].merged() for name in needed)


def _training_run(cell: Cell, settings: Settings, known: Mapping[str, NetworkSpec]) -> TrainingRun:
    layout = layout_of(settings)
    return TrainingRun(
        student=known[cell.id].figures(),
        teachers=tuple(teacher.figures() for teacher in _teachers(cell, settings, known)),
        layout=layout,
        teacher_weights=_teacher_weights(settings, layout),
    )


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
