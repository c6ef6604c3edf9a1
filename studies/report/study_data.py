"""What a report shows, read from a study's folder: runs with labels, final results, scores."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from audits.mechanism import Mechanism, note
from audits.results import read_table
from studies.claims import Finding, study_findings
from studies.claims.figures import StudyFigures
from studies.compare.comparisons import AttackScores, attack_scores
from studies.compare.disagreement import STUDY_RUN
from studies.compare.memorization import Accuracies, read_accuracies
from studies.compare.primary_attack import Attack, primary_attack
from studies.compare.shown_techniques import as_they_ran, mechanisms_of
from studies.plan.cells import Cell, Plan
from studies.report.labels import attack_labels, attack_title, owner, run_labels
from studies.run.cell_state import CellFiles

# A baseline: it has never seen the model, so it stands beside the attacks and is none.
BLIND = "blind"


@dataclass(frozen=True)
class StudyData:
    """Everything a page is made of.

    Attributes:
        plan: The plan that the last run used, techniques named by what ran.
        cells: Its finished cells: teachers, students, controls, counterfactuals.
        states: State of every cell, by id.
        labels: Label of each run on the page, by alias.
        kinds: The same without replicate and seed: runs that repeat each other share it.
        plain_labels: Role and technique alone, whatever the size.
        results: Rows of each finished run's last step, with `label`, `label_b` and `attack`.
        history: The same at every step.
        technique_rows: Results about techniques, which belong to no run.
        scores: Scores at the last step: alias -> (attack, params) -> scores.
        facts: Content of each finished cell's state file, by alias.
        mechanisms: What of its technique's mechanism ran, by alias, where results say it.
        on_disk: The plan as it was configured and the study's folder; None of rows in memory.
        reveal: Whether private records may be shown in words.
    """

    plan: Plan
    cells: tuple[Cell, ...]
    states: dict[str, str]
    labels: dict[str, str]
    kinds: dict[str, str]
    plain_labels: dict[str, str]
    results: pd.DataFrame
    history: pd.DataFrame
    technique_rows: pd.DataFrame
    scores: dict[str, dict[Attack, AttackScores]]
    facts: dict[str, dict[str, object]]
    mechanisms: dict[str, Mechanism] = field(default_factory=dict)
    on_disk: tuple[Plan, Path] | None = None
    reveal: bool = False

    @property
    def replicated(self) -> bool:
        """Whether runs repeat each other, with other splits or other seeds."""
        return len(set(self.kinds.values())) < len(set(self.labels.values()))

    @property
    def n_replicates(self) -> int:
        """Number of replicates of the finished cells."""
        return len({cell.replicate for cell in self.cells})

    @cached_property
    def notes(self) -> dict[str, str]:
        """What ran, by every name that stands for a run, for its repetitions or its technique."""
        named: dict[str, list[Mechanism]] = defaultdict(list)
        for cell in self.cells:
            alias = cell.alias
            if alias in self.mechanisms:
                names = {self.labels[alias], self.kinds[alias], self.plain_labels[alias]}
                for name in {*names, str(cell.technique)}:
                    named[name].append(self.mechanisms[alias])
        return {name: text for name, runs in named.items() if (text := note(runs))}

    @property
    def sizes(self) -> dict[str, list[str]]:
        """Sizes of the planned students by family, both in the plan's order."""
        sizes: dict[str, list[str]] = {}
        for cell in self.plan.cells:
            if cell.role == "student" and cell.size not in sizes.setdefault(cell.family, []):
                sizes[cell.family].append(cell.size)
        return sizes

    @cached_property
    def findings(self) -> list[Finding]:
        """The verdicts on the five claims; none where the study has no students."""
        if self.on_disk is None or not self.sizes:
            return []
        return study_findings(*self.on_disk)

    @cached_property
    def figures(self) -> StudyFigures:
        """The figures that the claims read."""
        return StudyFigures(self.plan, self.states, self.history)

    @cached_property
    def record_table(self) -> pd.DataFrame:
        """The table of memorization, a row per record; empty of rows in memory."""
        if self.on_disk is None:
            return pd.DataFrame()
        return read_table(self.on_disk[1], "memorization").to_pandas()

    @cached_property
    def task_of(self) -> dict[str, str]:
        """Task of each record that has one, by id, where records have a table."""
        known = self.record_table
        if not len(known):
            return {}
        rows = known.dropna(subset="task").drop_duplicates("record")
        return dict(zip(rows["record"].astype(str), rows["task"], strict=True))

    @cached_property
    def accuracies(self) -> Accuracies | None:
        """Token accuracies by record; None where they were not measured."""
        if self.on_disk is None:
            return None
        results = read_table(self.on_disk[1], "results")
        return next(iter(read_accuracies(self.cells, results, self.record_table)), None)

    @property
    def configured(self) -> dict[str, str | None]:
        """Label of each finished run's technique in the study file, by alias."""
        planned = () if self.on_disk is None else self.on_disk[0].cells
        labels = {cell.alias: cell.technique for cell in planned}
        return {cell.alias: labels.get(cell.alias, cell.technique) for cell in self.cells}

    @property
    def primary_name(self) -> str:
        """What the page calls the primary attack."""
        return str(attack_title(self.primary[0]))

    def rows(self, **values: object) -> pd.DataFrame:
        """Returns the results whose columns have these values; None asks for null."""
        found = self.results
        for column, value in values.items():
            wanted = found[column].isna() if value is None else found[column] == value
            found = found[wanted]
        return found

    @cached_property
    def primary(self) -> Attack:
        """The attack that claims and headline read."""
        return primary_attack(self.history)

    def of_primary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Returns those of the rows that are the primary attack's."""
        return rows[(rows["name"] == self.primary[0]) & (rows["params"] == self.primary[1])]

    def auroc_rows(self) -> pd.DataFrame:
        """Returns the attacks' whole-model AUROC of private against held-out, tasks together."""
        rows = self._whole_private
        return rows[(rows["metric"] == "auroc") & (rows["name"] != BLIND)]

    def blind_rows(self) -> pd.DataFrame:
        """Returns what the text alone tells: AUROC per run, and `needed`, records a side."""
        rows = self._whole_private
        rows = rows[rows["name"] == BLIND]
        needed = rows[rows["metric"] == "records_needed"].set_index("run")["value"]
        rows = rows[rows["metric"] == "auroc"]
        return rows.assign(needed=rows["run"].map(needed))

    def primary_rows(self) -> pd.DataFrame:
        """Returns each run's AUROC under the primary attack."""
        return self.of_primary(self.auroc_rows()).drop_duplicates("run")

    def comparison_rows(self, metric: str) -> pd.DataFrame:
        """Returns the rows of one comparison metric, with `pair`, the label of both runs."""
        rows = self.rows(metric=metric, task=None)
        rows = rows[rows["run_b"].notna()]
        return rows.assign(pair=rows["label"] + " − " + rows["label_b"].fillna(""))

    @property
    def _whole_private(self) -> pd.DataFrame:
        return self.rows(
            audit="membership", population="private", task=None, block=None, run_b=None
        )


def read_study_data(plan: Plan, out: Path) -> StudyData:
    """Reads a study's merged tables and the states of its cells.

    Args:
        plan: The plan that the last run used.
        out: The study's folder.

    Raises:
        UserError: The tables are missing.
    """
    every = read_table(out, "results").to_pandas()
    mechanisms = mechanisms_of(every)
    on_disk = (plan, out)
    plan = as_they_ran(plan, mechanisms)
    states = {cell.id: CellFiles(cell).state() for cell in plan.cells}
    done = [cell for cell in plan.cells if states[cell.id] == "done"]
    labels = run_labels(plan)
    cells = _in_order(done, labels)
    history = every[every["run"].isin([cell.alias for cell in cells])].copy()
    order = {cell.alias: index for index, cell in enumerate(cells)}
    history["order"] = history["run"].map(order)
    history["technique"] = history["run"].map({cell.alias: cell.technique for cell in cells})
    history["label"] = history["run"].map(labels)
    history["label_b"] = history["run_b"].map(labels)
    history["attack"] = attack_labels(history)
    history = history.sort_values("order", kind="stable")
    last = history.groupby(["run", "audit"])["step"].transform("max")
    return StudyData(
        plan=plan,
        cells=cells,
        states=dict(states),
        labels=labels,
        kinds=run_labels(plan, repeats=False),
        plain_labels=run_labels(plan, plain=True),
        results=history[history["step"] == last],
        history=history,
        technique_rows=every[every["run"] == STUDY_RUN],
        scores=attack_scores(read_table(out, "scores").to_pandas()),
        facts={cell.alias: CellFiles(cell).read() for cell in cells},
        mechanisms=mechanisms,
        on_disk=on_disk,
    )


_SHOWN_ORDER = (
    "teacher",
    "student",
    "control",
    "init",
    "base",
    "reference",
    "counterfactual_teacher",
    "counterfactual",
)


def _in_order(cells: Sequence[Cell], labels: Mapping[str, str]) -> tuple[Cell, ...]:
    """Returns cells as pages show them; a counterfactual run stands behind whose it is."""
    by_role = sorted(cells, key=lambda cell: _SHOWN_ORDER.index(cell.role))
    place = {labels[cell.alias]: number for number, cell in enumerate(by_role)}

    def of(cell: Cell) -> tuple[int, int]:
        own = place[labels[cell.alias]]
        return place.get(owner(labels[cell.alias]) or "", own), own

    return tuple(sorted(by_role, key=of))
