"""What the audit of a student and its teacher found: printed, drawn, saved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa

from audits.answer import Answer, Figure, ModelAnswer, Statement
from audits.answer.gate import conditions_of, failures
from audits.answer.machine import audit_json
from audits.answer.one_model import attack_title, excess_statement
from audits.answer.sentence import audits_of, general_advice, plain_sentence, untested
from audits.model_card.markdown import Row
from audits.model_card.span_section import FIGURE_COLUMNS
from audits.results import SCHEMAS
from kd_privacy.audit_page import figure_lines, page_text, sections, write_audit
from kd_privacy.inheritance import MEMORIZED_BY, RELATIVE_LEAKAGE
from kd_privacy.result import Audit

_SHOWN = (RELATIVE_LEAKAGE, "swap_estimate", "auroc_difference")


@dataclass(frozen=True)
class PairAudit:
    """What the audit of a student and its teacher found; made by `kd_privacy.audit_pair`.

    Attributes:
        student: The student's own audit.
        teacher: The teacher's.
        counterfactual: That of a student whose teacher had the other side; None without one.
        compared: Rows that compare them, in the schema of the results table; ``run_b`` names the
            model that ``run`` is compared with.
        said: What the comparisons cannot say.
    """

    student: Audit
    teacher: Audit
    counterfactual: Audit | None
    compared: pa.Table
    said: Sequence[str]

    @property
    def audits(self) -> dict[str, Audit]:
        """The audit of every model, the student first."""
        audits = {"student": self.student, "teacher": self.teacher}
        return audits | (
            {} if self.counterfactual is None else {"counterfactual": self.counterfactual}
        )

    @cached_property
    def tables(self) -> dict[str, pa.Table]:
        """The tables of all models; results hold the rows that compare them too."""
        found = {
            name: pa.concat_tables([audit.tables[name] for audit in self.audits.values()])
            for name in SCHEMAS
        }
        return found | {"results": pa.concat_tables([found["results"], self.compared])}

    @cached_property
    def results(self) -> pd.DataFrame:
        """Every figure with its interval, the columns of results.parquet."""
        return self.tables["results"].to_pandas()

    @cached_property
    def inherited(self) -> pd.DataFrame:
        """The figures that compare the models, in the columns of results.parquet."""
        return self.compared.to_pandas()

    def __str__(self) -> str:
        """Verdicts, intervals and counts of every model, what is inherited, what cannot be said."""
        return page_text(self._sections(), self.notes)

    __repr__ = __str__

    @property
    def notes(self) -> list[str]:
        """What must be known before a figure is read, and what could not be said."""
        by_run = {run: audit.notes for run, audit in self.audits.items()}
        shared = [
            note for note in by_run["student"] if all(note in notes for notes in by_run.values())
        ]
        own = [
            f"{run}: {note}"
            for run, notes in by_run.items()
            for note in notes
            if note not in shared
        ]
        return [*shared, *own, *self.said]

    @property
    def answer(self) -> Answer:
        """What is told first: student and teacher, what the student has from it, what to do."""
        models = [self._told_with_swap(), self.teacher.model_answer("teacher")]
        if self.counterfactual is not None:
            models.append(self.counterfactual.model_answer("counterfactual"))
        return Answer(
            kind="pair",
            question="Does this student give its teacher's training records away?",
            sentence=plain_sentence(models),
            models=models,
            caution=next(iter([*self.alarms, *self.notes]), ""),
            advice=list(general_advice(models)),
            untested=untested(audits_of(self.student.rows)),
            notes=self.notes,
        )

    def _told_with_swap(self) -> ModelAnswer:
        """Returns what is said of the student, beside its teacher and counterfactual."""
        told = self.student.model_answer("student")
        utility = self.teacher.model_answer("teacher").utility
        if utility is not None:
            told = replace(told, utility_beside=("teacher", utility.figure))
        aurocs = [row for row in self.student.rows if row["metric"] == "auroc"]
        told_apart = next((r["shifted"] for r in aurocs if r["audit"] == "membership"), None)
        shifted = None if told_apart is None else bool(told_apart)
        for row in self.compared.to_pylist():
            if row["run"] != "student" or row["run_b"] != "counterfactual" or row["task"]:
                continue
            if row["metric"] == "swap_estimate" and _same_attack(row, told.membership):
                told = replace(told, swap=Figure.of_row(row))
            if row["metric"] == "token_accuracy_gap_excess":
                beside = excess_statement(Figure.of_row(row), shifted)
                told = replace(told, memorization=beside)
        return told

    @property
    def rows(self) -> list[Row]:
        """Rows of the results table over all tasks, those that compare the models last."""
        own = chain.from_iterable(audit.rows for audit in self.audits.values())
        return [*own, *(row for row in self.compared.to_pylist() if row["task"] is None)]

    def failures(self, lines: Sequence[str]) -> list[str]:
        """Returns what a release gate finds, as `Audit.failures`; of the student where a line names
        no model.
        """
        return failures(
            conditions_of(lines), self.rows, {run: run for run in self.audits}, {"student"}
        )

    @property
    def alarms(self) -> list[str]:
        """The notes without which no figure may be read: a model that guesses, shifted data."""
        own = list(chain.from_iterable(audit.alarms for audit in self.audits.values()))
        return [note for note in self.notes if any(note.endswith(alarm) for alarm in own)]

    def save(self, folder: str | Path) -> Path:
        """Writes the tables, audit.json and a page; no text of a record is in them.

        Own ids of records lie in private/records.parquet alone, as `Audit.save` says.

        Args:
            folder: Where they go, in the place of an earlier audit's; made if it is not there.

        Returns:
            Path of the page.

        Raises:
            UserError: There is a file of that name.
        """
        return write_audit(
            Path(folder),
            self.tables,
            self._sections(),
            self.answer,
            audit_json(self.answer, self.rows, [audit.about for audit in self.audits.values()]),
            self.student.names,
        )

    def _shown(self) -> list[Row]:
        """Returns the comparisons that stand on the page: curves are drawn."""
        return [
            row
            for row in self.compared.to_pylist()
            if row["task"] is None
            and (row["metric"] in _SHOWN or row["name"] in (MEMORIZED_BY, "inherited"))
        ]

    def _sections(self) -> list[tuple[str, Sequence[str], Sequence[Sequence[object]]]]:
        found = []
        for run, audit in self.audits.items():
            found += sections(audit.rows, run)
        rows = self._shown()
        lines = [
            (f"{row['name']}: {measure}", f"{of}, {row['run']} beside {row['run_b']}", *figures)
            for row, (measure, of, *figures) in zip(rows, figure_lines(rows), strict=True)
        ]
        return [*found, ("What the student inherits", FIGURE_COLUMNS, lines)]


def _same_attack(row: Row, membership: Statement | None) -> bool:
    return membership is not None and attack_title(row) == membership.title
