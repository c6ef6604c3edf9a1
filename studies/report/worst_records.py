"""The private records that students repeat most closely: by id, and in words only if asked for.

What the models wrote lies in the runs' private folders as token ids. Without being asked to reveal
it, a page gets the ids of records, figures, and which tokens match; it gets no text.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from transformers import PreTrainedTokenizerBase

from audits.memorization.continuations import Continuation, read_continuations
from audits.results import read_table
from datamodules.tokenizer import load_tokenizer
from studies.compare.memorization import PRIVATE, Accuracies, read_accuracies
from studies.plan.cells import Cell
from studies.report.page_tables import PageTable, TableCell, TableColumn
from studies.report.study_data import StudyData

__all__ = ["RevealedRecord", "WorstRecord", "revealed", "worst_records", "worst_records_table"]

SHOWN_PER_STUDENT = 5
_MATCH, _OTHER = "●", "○"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class WorstRecord:
    """A private record that a student repeats, without a word of it.

    Attributes:
        student: The student.
        record: Id of the record.
        task: Its task; None where it is not known.
        accuracy: Token accuracy of the student.
        counterfactual: That of its counterfactual; None where there is none.
        teacher: That of its teacher, the mean of an ensemble; None where there is none.
        writers: The teachers, then the student.
    """

    student: Cell
    record: str
    task: str | None
    accuracy: float
    counterfactual: float | None
    teacher: float | None
    writers: tuple[Cell, ...]


@dataclass(frozen=True)
class Span:
    """Consecutive tokens as text, all of them equal to the true ones at their places or none."""

    text: str
    matches: bool


@dataclass(frozen=True)
class RevealedRecord:
    """A worst record in words.

    Attributes:
        worst: The record.
        label: The student's name on the page.
        prompt: The prompt, template included.
        truth: The beginning of the true response.
        written: What each model wrote in its place, by its name on the page.
    """

    worst: WorstRecord
    label: str
    prompt: str
    truth: str
    written: dict[str, list[Span]]


def worst_records(data: StudyData, out: Path) -> list[WorstRecord]:
    """Returns the worst private records of one student of each technique and size.

    Worst by what the student has more than its counterfactual, or by its accuracy where it has
    none; the student is that of the first replicate and seed.

    Args:
        data: The study.
        out: Its folder.
    """
    memorization = read_table(out, "memorization").to_pandas()
    found = read_accuracies(data.cells, read_table(out, "results"), memorization)
    if not found:
        return []
    known = memorization.drop_duplicates("record")
    tasks = {
        str(record): None if pd.isna(task) else str(task)
        for record, task in zip(known["record"], known["task"], strict=True)
    }
    students: dict[tuple[str, str, str | None], Cell] = {}
    for cell in sorted(found[0].cells, key=lambda one: (one.replicate, one.seed)):
        if cell.role == "student":
            students.setdefault((cell.family, cell.size, cell.technique), cell)
    return [
        one
        for cell in found[0].cells
        if cell in students.values()
        for one in _worst_of(found[0], cell, tasks)
    ]


def _worst_of(
    accuracies: Accuracies, student: Cell, tasks: Mapping[str, str | None]
) -> Iterator[WorstRecord]:
    own = accuracies.of(student, PRIVATE)
    others = [
        other
        for cell, other in accuracies.pairs()
        if cell == student and other.role == "counterfactual"
    ]
    teachers = accuracies.teachers(student)
    columns = {
        "accuracy": own,
        "counterfactual": _mean(accuracies, others),
        "teacher": _mean(accuracies, teachers),
    }
    table = pd.DataFrame(columns).loc[own.index]
    table["excess"] = table["accuracy"] - table["counterfactual"].fillna(0.0)
    ranked = table.sort_values(["excess", "accuracy", "teacher"], ascending=False, kind="stable")
    for record, row in ranked.head(SHOWN_PER_STUDENT).iterrows():
        yield WorstRecord(
            student,
            str(record),
            tasks[str(record)],
            float(row["accuracy"]),
            _number(row["counterfactual"]),
            _number(row["teacher"]),
            (*teachers, student),
        )


def _mean(accuracies: Accuracies, cells: Sequence[Cell]) -> pd.Series:
    every = [accuracies.of(cell, PRIVATE) for cell in cells]
    return pd.concat(every, axis=1).mean(axis=1) if every else pd.Series(dtype=float)


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def worst_records_table(data: StudyData, worst: Sequence[WorstRecord]) -> PageTable:
    """Returns the records by id, with figures and which tokens match; no text."""
    numbers = ("Student’s accuracy", "Counterfactual’s", "Teacher’s")
    columns = [
        *(TableColumn(title) for title in ("Model", "Record", "Task")),
        *(TableColumn(title, numeric=True) for title in numbers),
        *(TableColumn(title) for title in ("Teacher’s text", "Student’s text")),
    ]
    kept = _Kept()
    rows = [
        [
            TableCell(data.labels[one.student.alias]),
            TableCell(one.record),
            TableCell(one.task or "—"),
            *(_accuracy(value) for value in (one.accuracy, one.counterfactual, one.teacher)),
            TableCell(kept.pattern(one.writers[0], one.record) if len(one.writers) > 1 else "—"),
            TableCell(kept.pattern(one.student, one.record)),
        ]
        for one in worst
    ]
    frame = pd.DataFrame(
        [
            {
                "run": one.student.alias,
                "record": one.record,
                "task": one.task,
                "accuracy": one.accuracy,
                "counterfactual": one.counterfactual,
                "teacher": one.teacher,
            }
            for one in worst
        ]
    )
    return PageTable(columns, rows, frame)


def _accuracy(value: float | None) -> TableCell:
    return TableCell("—", "") if value is None else TableCell(f"{value:.3f}", f"{value:.9g}")


def revealed(data: StudyData, worst: Sequence[WorstRecord]) -> list[RevealedRecord]:
    """Returns the records in words, as far as the runs' private folders are at hand."""
    kept = _Kept()
    found = []
    for one in worst:
        texts = [(cell, kept.of(cell).get(one.record)) for cell in one.writers]
        _, own = texts[-1]
        if own is None:
            continue
        tokenizer = kept.tokenizer(one.student)
        found.append(
            RevealedRecord(
                one,
                data.labels[one.student.alias],
                "".join(pieces(tokenizer, own.prompt_ids)),
                "".join(pieces(tokenizer, own.true_ids)),
                {
                    data.labels[cell.alias]: spans(kept.tokenizer(cell), text)
                    for cell, text in texts
                    if text is not None
                },
            )
        )
    return found


class _Kept:
    """Continuations and tokenizers of runs, each read once."""

    def __init__(self) -> None:
        self._continuations: dict[str, dict[str, Continuation]] = {}
        self._tokenizers: dict[str, PreTrainedTokenizerBase] = {}

    def of(self, cell: Cell) -> dict[str, Continuation]:
        if cell.run_dir not in self._continuations:
            folder = Path(cell.run_dir) / "private"
            self._continuations[cell.run_dir] = read_continuations(folder, PRIVATE)
        return self._continuations[cell.run_dir]

    def tokenizer(self, cell: Cell) -> PreTrainedTokenizerBase:
        folder = str(Path(cell.run_dir) / cell.output)
        if folder not in self._tokenizers:
            self._tokenizers[folder] = load_tokenizer(folder)
        return self._tokenizers[folder]

    def pattern(self, cell: Cell, record: str) -> str:
        """Returns a mark for each true token: whether the model wrote it at its place."""
        text = self.of(cell).get(record)
        return "".join(_MATCH if one else _OTHER for one in text.matches) if text else "—"


def spans(tokenizer: PreTrainedTokenizerBase, text: Continuation) -> list[Span]:
    """Returns what a model wrote, cut where its tokens begin or cease to match."""
    flags = [*text.matches, *[False] * len(text.written_ids)]
    found: list[Span] = []
    for piece, matches in zip(pieces(tokenizer, text.written_ids), flags, strict=False):
        if found and found[-1].matches == matches:
            found[-1] = Span(found[-1].text + piece, matches)
        else:
            found.append(Span(piece, matches))
    return found


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Returns the text that each token adds; special tokens are shown by name.

    A token that ends inside a character adds nothing; the one that completes it adds all of it.
    """
    found: list[str] = []
    shown = ""
    for count in range(1, len(ids) + 1):
        text = str(tokenizer.decode(list(ids[:count]), skip_special_tokens=False))
        whole = count == len(ids) or not text.endswith(_REPLACEMENT)
        found.append(text[len(shown) :] if whole else "")
        shown = text if whole else shown
    return found
