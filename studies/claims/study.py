"""Everything that the claims read of a study, and its panels."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from audits.results import read_table
from studies.claims.figures import StudyFigures
from studies.claims.matching import BEYOND, matched_figures, membership_curve, memorization_curve
from studies.claims.panel import Panel, panel_of
from studies.claims.records import Found, membership_sample, memorization_sample
from studies.claims.sample import Sample
from studies.claims.verdict import (
    MEMBERSHIP_MARGIN,
    MEMORIZATION_MARGIN,
    Outcome,
    Statement,
)
from studies.compare.comparisons import AttackScores, attack_scores
from studies.compare.memorization import Accuracies, read_accuracies
from studies.compare.shown_techniques import as_they_ran, mechanisms_of
from studies.plan.cells import Cell, Plan
from studies.plan.own_splits import require_replicates
from studies.run.cell_state import CellFiles

MARGINS = {"membership": MEMBERSHIP_MARGIN, "memorization": MEMORIZATION_MARGIN}
"""Smallest differences that count, by measure."""
LAST_CHECKPOINT, EQUAL_UTILITY = "last checkpoint", "at equal utility"
ByCell = Callable[[Cell], str | None]
"""Column of a student: its technique, say, or a factor's level; None leaves it out."""
RecordTables = tuple[Mapping[str, Mapping[tuple[str, str], AttackScores]], list[Accuracies]]
"""Scores at the last step by run and attack, and token accuracies by set of parameters."""


@dataclass(frozen=True)
class ClaimsData:
    """A study as the claims see it.

    Attributes:
        figures: Its endpoints.
        read_records: Reads what is known record by record, which a single replicate's tests need.
    """

    figures: StudyFigures
    read_records: Callable[[], RecordTables]

    def named(self, measure: str) -> str:
        """Returns a measure with the attack that it is conditional on."""
        return f"{measure} ({self.figures.attack[0]})" if measure == "membership" else measure

    def panel(self, measure: str, column: ByCell) -> Panel:
        """Returns a measure at the last checkpoint, averaged over what shares a column.

        Args:
            measure: A name of `MARGINS`.
            column: Column of each student.
        """
        value = self.figures.membership if measure == "membership" else self.figures.memorization
        return self._panel(column, value)

    def matched(self, measure: str, column: ByCell, keep: Collection[str] | None = None) -> Panel:
        """Returns a measure at equal utility; see `panel`.

        Args:
            measure: A name of `MARGINS`.
            column: Column of each student.
            keep: Columns that the comparison needs; of the others those are left out, by name,
                whose students start beyond the common utility. None needs all.
        """
        risks = self._matched[measure]
        beyond = dict.fromkeys(
            column(cell) for cell in self.figures.students if risks[cell.alias] is None
        )
        out = [name for name in beyond if name and keep is not None and name not in keep]

        def value(cell: Cell) -> float | str:
            risk = risks[cell.alias]
            return f"{cell.alias}: {BEYOND}" if risk is None else risk

        panel = self._panel(lambda cell: None if column(cell) in out else column(cell), value)
        return replace(panel, left_out=tuple(out))

    def _panel(self, column: ByCell, value: Callable[[Cell], float | str]) -> Panel:
        entries = (
            (cell.replicate, name, value(cell))
            for cell in self.figures.students
            if (name := column(cell)) is not None
        )
        return panel_of(entries, shift_excluded=self.figures.shift_excluded())

    def sample(self, measure: str, panel: Panel, column: ByCell | None) -> Found | None:
        """Returns the figures of a panel with their uncertainty, over replicates or over records.

        Args:
            measure: A name of `MARGINS`.
            panel: What `panel` or `matched` returned.
            column: Column of each student where the panel is of last checkpoints, whose records
                give a single replicate its uncertainty; None where no records do.

        Returns:
            The sample, and the records in words where they are the unit. None where there is
            neither a second replicate nor, of one that is complete, what the records need.
        """
        sample = panel.sample()
        if sample is not None:
            return sample, ""
        if column is None or len(panel.complete) != 1:
            return None
        pairs: dict[str, list[tuple[Cell, Cell]]] = {}
        for cell in self.figures.students:
            pair, name = self.figures.pair(cell), column(cell)
            if cell.replicate == panel.complete[0] and name and not isinstance(pair, str):
                pairs.setdefault(name, []).append(pair)
        scores, accuracies = self._records
        if measure == "membership":
            return membership_sample(self.figures, pairs, scores)
        return memorization_sample(pairs, accuracies)

    def judged(
        self,
        panel: Panel,
        rule: Callable[[Sample], Outcome],
        measure: str,
        where: str,
        *,
        column: ByCell | None = None,
        decides: bool = True,
    ) -> Statement:
        """Applies a rule to a panel: over replicates, or over records where there is one replicate.

        Args:
            panel: Figures by replicate and column.
            rule: From a sample to a test.
            measure: A name of `MARGINS`.
            where: At which checkpoint.
            column: See `sample`.
            decides: Whether the claim's verdict hangs on it.
        """
        sample, records = self.sample(measure, panel, column) or (None, "")
        outcome = panel.untested() if sample is None else rule(sample)
        name = f"{self.named(measure)}, {where}"
        return panel.statement(outcome, name, records=records, decides=decides)

    @cached_property
    def _records(self) -> RecordTables:
        return self.read_records()

    @cached_property
    def _matched(self) -> dict[str, dict[str, float | str | None]]:
        curves = (membership_curve, memorization_curve)
        return {
            measure: matched_figures(self.figures, curve)
            for measure, curve in zip(MARGINS, curves, strict=True)
        }


def technique_of(cell: Cell) -> str | None:
    """Returns the column of a student where techniques are compared."""
    return cell.technique


def read_claims_data(plan: Plan, out: Path) -> ClaimsData:
    """Reads a study's merged tables and the states of its cells.

    Raises:
        UserError: The tables are missing, or replicates share a split.
    """
    require_replicates(plan)
    results = read_table(out, "results")
    rows = results.to_pandas()
    plan = as_they_ran(plan, mechanisms_of(rows))
    states = {cell.id: CellFiles(cell).state() for cell in plan.cells}

    def read_records() -> RecordTables:
        scores, memorization = (
            read_table(out, name).to_pandas() for name in ("scores", "memorization")
        )
        done = [cell for cell in plan.cells if states[cell.id] == "done"]
        return attack_scores(scores), read_accuracies(done, results, memorization)

    return ClaimsData(StudyFigures(plan, states, rows), read_records)
