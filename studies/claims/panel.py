"""One figure by replicate and column, and what of the planned figures is not there."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from studies.claims.sample import Sample
from studies.claims.verdict import Evidence

__all__ = ["Entry", "Panel", "panel_of"]

Entry = tuple[int, str, float | str]
"""Replicate, column, and the figure or why it is not there; no column: none of them is."""


@dataclass(frozen=True)
class Panel:
    """Figures by replicate and column: techniques, levels of a factor, or blocks.

    Attributes:
        columns: K names.
        replicates: R numbers of replicates.
        values: [R, K]; NaN where a figure that the mean needs is not there.
        missing: Why, one line per figure.
        left_out: Columns that cannot be compared with the others, by name.
    """

    columns: tuple[str, ...]
    replicates: tuple[int, ...]
    values: NDArray[np.float64]
    missing: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def complete(self) -> tuple[int, ...]:
        """The replicates in which every column has its figure."""
        return tuple(
            one
            for one, figures in zip(self.replicates, self.values, strict=True)
            if self.columns and not np.isnan(figures).any()
        )

    def restricted(self, columns: Sequence[str]) -> "Panel":
        """Returns the panel of some of its columns, in the order given."""
        keep = [self.columns.index(name) for name in columns]
        return replace(self, columns=tuple(columns), values=self.values[:, keep])

    def sample(self, replicates: Iterable[int] | None = None) -> Sample | None:
        """Returns the figures of the complete replicates; None with fewer than two.

        Args:
            replicates: Those to take; all complete ones if None.
        """
        chosen = set(self.complete if replicates is None else replicates)
        keep = [index for index, one in enumerate(self.replicates) if one in chosen]
        if len(keep) < 2 or not self.columns:
            return None
        return Sample.of_replicates(self.columns, self.values[keep])

    def evidence(self, *, shift_excluded: bool = True, records: str = "") -> Evidence:
        """Returns what lies behind a test of this panel."""
        return Evidence(len(self.complete), records, self.missing, shift_excluded, self.left_out)


def panel_of(entries: Iterable[Entry]) -> Panel:
    """Gathers figures; those of one replicate and column (seeds, sizes) are averaged.

    Args:
        entries: Replicate, column, figure or why there is none; the order of columns is kept.
    """
    cells: dict[tuple[int, str], list[float]] = {}
    missing: dict[str, None] = {}
    for replicate, column, value in entries:
        if isinstance(value, str):
            missing[value] = None
            value = math.nan
        cells.setdefault((replicate, column), []).append(value)
    replicates = tuple(sorted({replicate for replicate, _ in cells}))
    columns = tuple(dict.fromkeys(column for _, column in cells if column))
    broken = {replicate for replicate, column in cells if not column}
    values = np.full((len(replicates), len(columns)), math.nan)
    for row, replicate in enumerate(replicates):
        for place, column in enumerate(columns):
            if replicate not in broken and (replicate, column) in cells:
                values[row, place] = np.mean(cells[replicate, column])
    return Panel(columns, replicates, values, tuple(missing))
