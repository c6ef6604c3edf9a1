"""What an audit found: printed, indexed by attack, drawn, saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure

from audits.answer import Answer, ModelAnswer, model_answer
from audits.answer.gate import conditions_of, failures
from audits.answer.judging import params_of
from audits.answer.machine import audit_json
from audits.answer.sentence import audits_of, single_answer
from audits.context import Measurements
from audits.known_text import warnings_of
from audits.membership.dataset_inference import SET_EFFECT, SETS_DETECTED
from audits.membership.metrics import ScoredRecords, area
from audits.membership.score_rows import ScoreRows
from audits.membership.worst_task import WORST_TASK
from audits.memorization.rows import NEVER_MISSING, NEVER_MISSING_TEXT
from audits.model_card.markdown import Row, figure_text, options_text
from audits.results import SCHEMAS, table_from_rows
from audits.scoring.shift_test import SHIFTED
from audits.statistics import Estimate, TprEstimate, tpr_at_fpr
from common.errors import UserError
from datamodules.record_names import RecordNames
from kd_privacy.audit_page import page_text, sections, write_audit

_EVOLUTION = "/evolution"
"""Ends the name of a figure over several checkpoints, which one audit does not have."""


@dataclass(frozen=True)
class AttackResult:
    """One attack's scores of members and non-members.

    Attributes:
        name: The attack's id, with its options where it has any.
        members: Scores of the members.
        nonmembers: Scores of the non-members.
        level: Level of the intervals.
    """

    name: str
    members: ScoredRecords
    nonmembers: ScoredRecords
    level: float

    @property
    def auroc(self) -> Estimate:
        """The chance that a random member scores above a random non-member, with its interval."""
        return area(self.members, self.nonmembers, self.level)

    def tpr_at_fpr(self, fpr: float) -> TprEstimate:
        """Returns the share of members that are found at a false-positive rate."""
        return tpr_at_fpr(
            self.members.scores,
            self.nonmembers.scores,
            fpr,
            self.level,
            member_clusters=self.members.clusters,
            nonmember_clusters=self.nonmembers.clusters,
        )


@dataclass(frozen=True)
class Audit:
    """What the audit of one model found; made by `kd_privacy.audit`.

    Attributes:
        tables: The tables results, scores and memorization, in the schemas of `audits.results`.
        attacks: Result of every attack, by its id with its options.
        warnings: What must be known before a figure is read.
        figures: Figures by name.
        about: What was tested, in plain values: model, tokenizer, template and records by hash.
        names: What the records are called in the tables, and what their own ids are.
    """

    tables: Mapping[str, pa.Table]
    attacks: Mapping[str, AttackResult]
    warnings: Sequence[str]
    figures: Mapping[str, Figure]
    about: Mapping[str, object]
    names: RecordNames = field(default_factory=RecordNames)

    @classmethod
    def of(
        cls,
        found: Mapping[str, Measurements],
        identity: Mapping[str, object],
        level: float,
        warnings: Sequence[str],
        about: Mapping[str, object],
        names: RecordNames,
    ) -> "Audit":
        """Puts together what the audits of a model found.

        Args:
            found: Measurements by the audit's name.
            identity: Columns that all rows share: run, role, seed, step.
            level: Level of the intervals of the attacks' estimates.
            warnings: What must be known before a figure is read.
            about: What was tested, in plain values.
            names: What the records are called.
        """
        each = [own.tables(identity, audit) for audit, own in found.items()]
        rows = {name: chain(*(own.get(name, ()) for own in each)) for name in SCHEMAS}
        tables = {name: _sorted(name, table_from_rows(name, rows[name])) for name in SCHEMAS}
        figures = {
            name: figure
            for own in found.values()
            for name, figure in own.figures.items()
            if not name.endswith(_EVOLUTION)
        }
        guesses = warnings_of(tables["results"].to_pylist())
        scores = found["membership"].scores
        attacks = _attacks(scores, level) if isinstance(scores, ScoreRows) else {}
        return cls(tables, attacks, [*guesses, *warnings], figures, about, names)

    @cached_property
    def results(self) -> pd.DataFrame:
        """Every figure with its interval, the columns of results.parquet."""
        return self.tables["results"].to_pandas()

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Every record's score under every attack, the columns of scores.parquet."""
        return self.tables["scores"].to_pandas()

    @cached_property
    def memorization(self) -> pd.DataFrame:
        """What the model wrote of every record, the columns of memorization.parquet."""
        return self.tables["memorization"].to_pandas()

    @cached_property
    def records(self) -> pd.DataFrame:
        """Each record's name in the tables, its own id, and the same of its subject: private."""
        return self.names.table.to_pandas()

    def __getitem__(self, attack: str) -> AttackResult:
        """Returns an attack's result by its id, such as ``loss`` or ``min_k``.

        Raises:
            UserError: There is none, or several with different options, which are then part of the
                name, such as ``min_k (k=0.1)``.
        """
        named = [one for label, one in self.attacks.items() if attack in (label, label.split()[0])]
        if len(named) != 1:
            known = ", ".join(self.attacks)
            reason = "several attacks are" if named else "no attack is"
            raise UserError(f"{reason} named {attack!r}; there are {known}")
        return named[0]

    def __str__(self) -> str:
        """Verdicts, intervals and counts, and what could not be said."""
        return page_text(sections(self.rows), self.notes)

    __repr__ = __str__

    @property
    def notes(self) -> list[str]:
        """What must be known before a figure is read, and what could not be said."""
        whole = [row for row in self.rows if row["audit"] == "membership"]
        attacks = [row for row in whole if row["metric"] == "auroc" and row["name"] != "blind"]
        skipped = max((int(str(row["skipped"] or 0)) for row in attacks), default=0)
        missing: dict[str, list[str]] = {}
        for row in whole:
            if row["value"] is None and row["lower"] is None and row["upper"] is None:
                names = missing.setdefault(str(row["metric"]), [])
                names.append(f"{row['name']}{options_text(row)}")
        notes = list(self.warnings)
        if any(row["metric"] == NEVER_MISSING for row in self.rows):
            notes.append(NEVER_MISSING_TEXT)
        if skipped:
            notes.append(f"{skipped} record(s) have no response that could be scored")
        if worst := self._worst_tasks():
            notes.append(f"worst task, named by one half of the records: {'; '.join(worst)}")
        notes += self._sets()
        return notes + [
            f"too few records to measure {metric} of {', '.join(names)}"
            for metric, names in missing.items()
        ]

    def _worst_tasks(self) -> list[str]:
        """Returns each attack's worst task with its AUROC."""
        rows = [r for r in self.tables["results"].to_pylist() if r["metric"] == WORST_TASK]
        rows = [r for r in rows if "unit" not in r["params"]]
        return [f"{r['name']}{options_text(r)} {r['task']} {figure_text(r)}" for r in rows]

    def _sets(self) -> list[str]:
        """Returns whether all attacks together tell the members' set from the non-members'."""
        rows = [row for row in self.rows if "unit" not in params_of(row)]
        sizes = {
            int(str(params_of(row)["set_size"])): f"{100 * float(str(row['value'])):.0f}%"
            for row in rows
            if row["metric"] == SETS_DETECTED
        }
        parts = ", ".join(f"{share} of sets of {size}" for size, share in sorted(sizes.items()))
        return [
            f"all attacks together on a half of the members as one set: p = {row['p_value']:.2g}"
            + (f"; recognised are {parts}" if parts else "")
            + ("" if row["shifted"] is False else "; texts that differ are told apart as well")
            for row in rows
            if row["metric"] == SET_EFFECT
        ]

    @property
    def answer(self) -> Answer:
        """What is told first of this model: verdict, figures, caution, what to do."""
        told = [*self.alarms, *(note for note in self.notes if note not in self.alarms)]
        return single_answer(self.model_answer("external"), audits_of(self.rows), told)

    @property
    def _name(self) -> str:
        """What readers call the model: the name of its folder, or of its class."""
        model = self.about["model"]
        source = model["source"] if isinstance(model, Mapping) else None
        return Path(str(source or "the model")).name

    def model_answer(self, role: str) -> ModelAnswer:
        """Returns what is said of the model.

        Args:
            role: What it is among the models that are told of: external, student, teacher.
        """
        rows, run = self.tables["results"].to_pylist(), str(self.about["run"])
        names = {"external": self._name, "counterfactual": "Counterfactual student"}
        label = names.get(role, run.capitalize())
        return model_answer(rows, label=label, run=run, role=role)

    def failures(self, lines: Sequence[str]) -> list[str]:
        """Returns what a release gate finds; nothing where the model may be shipped.

        Args:
            lines: Such as ``membership/loss.tpr_at_fpr_0.01.lower > 0.05``, none of which may hold,
                or paths of files of them; see docs/audit_json.md.

        Returns:
            A line for every figure of which one holds, or that is absent or not measurable.

        Raises:
            UserError: A line that is none.
        """
        run = str(self.about["run"])
        return failures(conditions_of(lines), self.rows, {run: run}, {run})

    @property
    def alarms(self) -> list[str]:
        """The notes without which no figure may be read: a model that guesses, shifted data."""
        shifted = (one for one in self.warnings if one.startswith(SHIFTED))
        return [*warnings_of(self.rows), *shifted]

    def plot(self) -> Figure:
        """Returns the ROC curves of all attacks, on linear and on logarithmic axes."""
        return next(figure for name, figure in self.figures.items() if name.endswith("/roc"))

    def save(self, folder: str | Path) -> Path:
        """Writes the tables and a page that anybody can open; no text of a record is in them.

        Own ids of records lie in private/records.parquet alone, beside the key of pseudonyms.

        Args:
            folder: Where results.parquet, scores.parquet, index.html, audit.json and, where it was
                measured, memorization.parquet go, in the place of an earlier audit's; made if it
                is not there.

        Returns:
            Path of the page.

        Raises:
            UserError: There is a file of that name.
        """
        return write_audit(
            Path(folder),
            self.tables,
            sections(self.rows),
            self.answer,
            audit_json(self.answer, self.rows, [self.about]),
            self.names,
        )

    @property
    def rows(self) -> list[Row]:
        """Rows of the results table over all tasks."""
        return [row for row in self.tables["results"].to_pylist() if row["task"] is None]


def _sorted(name: str, table: pa.Table) -> pa.Table:
    """Returns a table in the order of a run's tables, which depends on the rows alone."""
    return table.sort_by([(column, "ascending") for column in SCHEMAS[name].names])


def _attacks(scores: ScoreRows, level: float) -> dict[str, AttackResult]:
    """Returns every attack's result by its id with its options."""
    sides: dict[str, dict[str, ScoredRecords]] = {}
    for attack, params, scored in scores.scored:
        options = ", ".join(f"{key}={value}" for key, value in params.items())
        label = f"{attack} ({options})" if options else attack
        sides.setdefault(label, {})[scored.population] = scored
    return {
        label: AttackResult(label, both["external"], both["held_out"], level)
        for label, both in sides.items()
    }
