"""What a study's cells will take before they run: parameters, memory of a device, time."""

from studies.run.estimates.cells import CellEstimate, estimate_cells
from studies.run.estimates.schedule import Forecast
from studies.run.estimates.timing import TimeModel

__all__ = ["CellEstimate", "Forecast", "TimeModel", "estimate_cells"]
