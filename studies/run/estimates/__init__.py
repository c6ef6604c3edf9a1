"""What a study's cells will take before they run: parameters, memory of a device, time."""

from studies.plan.cells import Plan
from studies.run.estimates.cells import CellEstimate, estimate_cells
from studies.run.estimates.schedule import Forecast
from studies.run.estimates.timing import TimeModel, recorded

__all__ = ["CellEstimate", "Forecast", "TimeModel", "estimate_cells", "time_model"]


def time_model(plan: Plan, estimates: dict[str, CellEstimate]) -> TimeModel:
    """Returns a plan's time model with what the cells in its folder took."""
    model = TimeModel(
        {cell_id: one.work for cell_id, one in estimates.items()},
        {cell_id: one.audits for cell_id, one in estimates.items()},
    )
    for cell in plan.cells:
        for folder, seconds in recorded(cell).items():
            model.add(cell, seconds, folder)
    return model
