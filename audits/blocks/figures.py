"""Pictures of profiles: AUROC over blocks at a checkpoint, and over blocks and steps in a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from audits.blocks.profile import Profile
from audits.blocks.rows import title
from audits.results import Row
from common.parquet_file import read_parquet

_COLUMNS = 3
_MOST_TICKS = 12
_MOST_NUMBERS = 36
Evolution = Mapping[str, Mapping[int, Mapping[int, float]]]
"""AUROC by reading, step and block."""

_WITHOUT = "delete it to go on without that audit of that checkpoint"


def profile_figure(profiles: Sequence[Profile], heading: str) -> Canvas:
    """Draws AUROC over blocks with the interval of each block as a band, a panel per reading.

    Args:
        profiles: The profiles of a checkpoint.
        heading: What was audited.
    """
    figure, panels = _grid(len(profiles), heading)
    for panel, profile in zip(panels, profiles, strict=True):
        found = [one for one in profile.figures if one.metric == "auroc"]
        shown = [
            (one.block, one.value, one.lower, one.upper)
            for one in found
            if one.value is not None and one.lower is not None and one.upper is not None
        ]
        panel.axhline(0.5, color="0.6", linestyle="--", linewidth=1)
        if shown:
            blocks, values, lower, upper = zip(*shown, strict=True)
            panel.fill_between(blocks, lower, upper, alpha=0.25, linewidth=0)
            # A band over a single block has no width.
            panel.vlines(blocks, lower, upper, alpha=0.4)
            panel.plot(blocks, values, marker="o", markersize=3)
        panel.set_title(title(profile.name, profile.params))
        panel.set_xticks(_thinned([one.block for one in found if one.block is not None]))
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlabel("block")
        panel.set_ylabel("AUROC")
    return figure


def evolution_figure(evolution: Evolution, heading: str) -> Canvas:
    """Draws AUROC as an image over steps and blocks, a panel per reading.

    Args:
        evolution: AUROCs of all checkpoints so far.
        heading: What was audited.
    """
    figure, panels = _grid(len(evolution), heading)
    for panel, (name, by_step) in zip(panels, evolution.items(), strict=True):
        steps = sorted(by_step)
        blocks = sorted({block for own in by_step.values() for block in own})
        image = np.array([[by_step[step].get(block, np.nan) for step in steps] for block in blocks])
        drawn = panel.imshow(
            image, origin="lower", aspect="auto", cmap="RdBu_r", vmin=0.0, vmax=1.0
        )
        if image.size <= _MOST_NUMBERS:
            _number(panel, image)
        shown = _thinned(range(len(steps))), _thinned(range(len(blocks)))
        panel.set_xticks(shown[0], [str(steps[place]) for place in shown[0]], rotation=60)
        panel.set_yticks(shown[1], [str(blocks[place]) for place in shown[1]])
        panel.set_title(name)
        panel.set_xlabel("optimiser step")
        panel.set_ylabel("block")
        figure.colorbar(drawn, ax=panel, label="AUROC")
    return figure


def earlier_rows(run_dir: Path, audit: str, step: int) -> list[Row]:
    """Returns an audit's rows of the run's checkpoints before a step, from the parts on disk.

    They outlive a kill, so that a resumed run draws its whole history.
    """
    found: list[Row] = []
    for path in sorted((run_dir / "parts" / "results").glob(f"step=*-audit={audit}.parquet")):
        if int(path.name.partition("-")[0].removeprefix("step=")) < step:
            rows = read_parquet(path, _WITHOUT).to_pylist()
            found += [{**row, "params": json.loads(row["params"])} for row in rows]
    return found


def evolution_of(rows: Sequence[Row], population: str) -> Evolution:
    """Returns the AUROCs of a population by reading, step and block.

    Args:
        rows: Rows with their step.
        population: The members' population.
    """
    found: dict[str, dict[int, dict[int, float]]] = {}
    for row in rows:
        block, value, step, params = (row.get(one) for one in ("block", "value", "step", "params"))
        if row["metric"] != "auroc" or row["population"] != population:
            continue
        if isinstance(block, int) and isinstance(value, float) and isinstance(step, int):
            name = title(row["name"], params if isinstance(params, Mapping) else {})
            found.setdefault(name, {}).setdefault(step, {})[block] = value
    return found


def _number(panel: Axes, image: NDArray[np.float64]) -> None:
    """Writes each AUROC into its cell."""
    for (row, column), value in np.ndenumerate(image):
        if not np.isnan(value):
            colour = "white" if abs(value - 0.5) > 0.3 else "black"
            panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)


def _thinned(places: Sequence[int]) -> Sequence[int]:
    """Returns every k-th of the places, so few that their labels do not touch."""
    return places[:: -(-len(places) // _MOST_TICKS) or 1]


def _grid(n: int, heading: str) -> tuple[Canvas, list[Axes]]:
    columns = min(n, _COLUMNS)
    rows = -(-n // columns)
    figure = Canvas(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in panels[n:]:
        empty.set_axis_off()
    figure.suptitle(heading, fontsize="medium")
    return figure, panels[:n]
