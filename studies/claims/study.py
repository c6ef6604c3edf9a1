"""Everything that the claims read of a study, and its panels."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from audits.results import read_table
from studies.claims.figures import StudyFigures
from studies.claims.matching import BEYOND, matched_figures, membership_curve, memorization_curve
from studies.claims.panel import Panel, panel_of
from studies.claims.records import Found, membership_sample, memorization_sample
from studies.compare.comparisons import AttackScores, attack_scores
from studies.compare.memorization import Accuracies, read_accuracies
from studies.compare.shown_techniques import as_they_ran, mechanisms_of
from studies.plan.cells import Cell, Plan
from studies.plan.own_splits import require_replicates
from studies.run.cell_state import CellFiles

__all__ = ["MEASURES", "ClaimsData", "read_claims_data"]

MEASURES = ("membership", "memorization")
ByCell = Callable[[Cell], str | None]
"""Column of a student: its technique, say, or a factor's level; None leaves it out."""


@dataclass(frozen=True)
class ClaimsData:
    """A study as the claims see it.

    Attributes:
        figures: Its endpoints.
        scores: Scores at the last step, by run and attack.
        accuracies: Token accuracies by set of parameters.
        record_rows: The tables `scores` and `memorization`.
    """

    figures: StudyFigures
    scores: Mapping[str, Mapping[tuple[str, str], AttackScores]]
    accuracies: tuple[Accuracies, ...]
    record_rows: tuple[pd.DataFrame, pd.DataFrame]

    def named(self, measure: str) -> str:
        """Returns a measure with the attack that it is conditional on."""
        return f"{measure} ({self.figures.attack[0]})" if measure == MEASURES[0] else measure

    def panel(self, measure: str, column: ByCell) -> Panel:
        """Returns a measure at the last checkpoint, averaged over what shares a column.

        Args:
            measure: One of `MEASURES`.
            column: Column of each student.
        """
        value = self.figures.membership if measure == MEASURES[0] else self.figures.memorization
        return self._panel(column, value)

    def matched(self, measure: str, column: ByCell, keep: Collection[str] | None = None) -> Panel:
        """Returns a measure at equal utility; see `panel`.

        Args:
            measure: One of `MEASURES`.
            column: Column of each student.
            keep: Columns that the comparison needs; of the others those are left out, by name,
                whose students start beyond the common utility. None needs all.
        """
        found = self._matched[measure]
        beyond = dict.fromkeys(
            name
            for cell in self.figures.students
            if str(found[cell.alias]).endswith(BEYOND) and (name := column(cell)) is not None
        )
        out = tuple(name for name in beyond if keep is not None and name not in keep)
        panel = self._panel(
            lambda cell: None if column(cell) in out else column(cell),
            lambda cell: found[cell.alias],
        )
        return replace(panel, left_out=out)

    def _panel(self, column: ByCell, value: Callable[[Cell], float | str]) -> Panel:
        return panel_of(
            (cell.replicate, name, value(cell))
            for cell in self.figures.students
            if (name := column(cell)) is not None
        )

    def over_records(self, measure: str, panel: Panel, column: ByCell) -> Found | None:
        """Returns the sample of the single complete replicate, over records.

        Args:
            measure: One of `MEASURES`.
            panel: What :meth:`panel` returned for it.
            column: The same.

        Returns:
            None with another number of complete replicates, or where the records do not allow it.
        """
        if len(panel.complete) != 1:
            return None
        pairs: dict[str, list[tuple[Cell, Cell]]] = {}
        for cell in self.figures.students:
            pair, name = self.figures.pair(cell), column(cell)
            if cell.replicate == panel.complete[0] and name and not isinstance(pair, str):
                pairs.setdefault(name, []).append(pair)
        if measure == MEASURES[0]:
            return membership_sample(self.figures, pairs, self.scores)
        return memorization_sample(pairs, self.accuracies)

    @cached_property
    def _matched(self) -> dict[str, dict[str, float | str]]:
        curves = (membership_curve, memorization_curve)
        return {
            measure: matched_figures(self.figures, curve)
            for measure, curve in zip(MEASURES, curves, strict=True)
        }


def read_claims_data(plan: Plan, out: Path) -> ClaimsData:
    """Reads a study's merged tables and the states of its cells.

    Raises:
        UserError: The tables are missing, or replicates share a split.
    """
    require_replicates(plan)
    results = read_table(out, "results")
    plan = as_they_ran(plan, mechanisms_of(results.to_pandas()))
    states = {cell.id: CellFiles(cell).state() for cell in plan.cells}
    done = [cell for cell in plan.cells if states[cell.id] == "done"]
    scores, memorization = (
        read_table(out, name).to_pandas() for name in ("scores", "memorization")
    )
    return ClaimsData(
        StudyFigures(plan, states, results.to_pandas()),
        attack_scores(scores),
        tuple(read_accuracies(done, results, memorization)),
        (scores, memorization),
    )
