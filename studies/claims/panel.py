"""One figure by replicate and column, and what of the planned figures is not there."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from studies.claims.sample import Sample
from studies.claims.verdict import Outcome, Statement, state

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
        shift_excluded: Whether private and held-out records are known to be alike.
        left_out: Columns that cannot be compared with the others, by name.
    """

    columns: tuple[str, ...]
    replicates: tuple[int, ...]
    values: NDArray[np.float64]
    missing: tuple[str, ...]
    shift_excluded: bool = True
    left_out: tuple[str, ...] = ()

    @property
    def complete(self) -> tuple[int, ...]:
        """The replicates in which every column has its figure."""
        whole = ~np.isnan(self.values).any(axis=1) & bool(self.columns)
        return tuple(np.array(self.replicates, dtype=int)[whole].tolist())

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
        rows = [row for row, replicate in enumerate(self.replicates) if replicate in chosen]
        if len(rows) < 2 or not self.columns:
            return None
        return Sample.of_replicates(self.columns, self.values[rows])

    def untested(self) -> Outcome:
        """Returns a test without figures; one complete replicate's stand in its details."""
        details = [
            f"{name}: {value:.3f}"
            for replicate in self.complete[:1]
            for name, value in zip(
                self.columns, self.values[self.replicates.index(replicate)], strict=True
            )
        ]
        return Outcome("undecided", None, "not tested", details=tuple(details))

    def statement(
        self,
        outcome: Outcome,
        measure: str,
        *,
        records: str = "",
        replicates: int | None = None,
        decides: bool = True,
    ) -> Statement:
        """Returns a test of this panel as a statement, undecided where the panel cannot carry it.

        Args:
            outcome: The test.
            measure: What was compared.
            records: Records behind a test of one replicate; empty where replicates are the unit.
            replicates: How many lie behind it; the complete ones if None.
            decides: Whether the claim's verdict hangs on it.
        """
        return state(
            outcome,
            measure,
            len(self.complete) if replicates is None else replicates,
            records=records,
            missing=self.missing,
            shift_excluded=self.shift_excluded,
            left_out=self.left_out,
            decides=decides,
        )


def panel_of(entries: Iterable[Entry], *, shift_excluded: bool = True) -> Panel:
    """Gathers figures; those of one replicate and column (seeds, sizes) are averaged.

    Args:
        entries: Replicate, column, figure or why there is none; the order of columns is kept.
        shift_excluded: Whether private and held-out records are known to be alike.
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
    values = np.full((len(replicates), len(columns)), math.nan)
    for row, replicate in enumerate(replicates):
        if (replicate, "") not in cells:
            for number, column in enumerate(columns):
                values[row, number] = np.mean(cells.get((replicate, column), math.nan))
    return Panel(columns, replicates, values, tuple(missing), shift_excluded)
