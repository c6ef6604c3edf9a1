"""The private records that students repeat most closely: by id, and in words only if asked for.

What the models wrote lies in the runs' private folders as token ids. Without being asked to reveal
it, a page gets the ids of records, figures, and which tokens match; it gets no text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from transformers import PreTrainedTokenizerBase

from audits.memorization.continuations import Continuation, read_continuations
from common.prose import prose
from datamodules.tokenizer import load_tokenizer
from studies.compare.memorization import PRIVATE, Accuracies
from studies.plan.cells import Cell
from studies.report import tables
from studies.report.parts import Part, Terms, Text, section
from studies.report.study_data import StudyData

SHOWN_PER_STUDENT = 5
_MATCH, _OTHER = "●", "○"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SAYS = prose(__file__)


@dataclass(frozen=True)
class WorstRecord:
    """A private record that a student repeats, without a word of it.

    Attributes:
        student: The student.
        record: Id of the record.
        task: Its task; None where it is not known.
        accuracy: Token accuracy of the student.
        counterfactual: That of its counterfactual; NaN where there is none.
        teacher: That of its teacher, the mean of an ensemble; NaN where there is none.
        writers: The teachers, then the student.
    """

    student: Cell
    record: str
    task: str | None
    accuracy: float
    counterfactual: float
    teacher: float
    writers: tuple[Cell, ...]


@section("worst_records", "The records that students repeat most closely")
def worst_records(data: StudyData) -> Iterator[Part]:
    """Yields the worst private records by id; in words too where the study may reveal them."""
    worst = find_worst_records(data)
    if worst:
        yield Text(_SAYS["text"] + ("" if data.reveal else _SAYS["hidden"]))
        yield worst_records_table(data, worst)
        yield from revealed(data, worst) if data.reveal else ()


def find_worst_records(data: StudyData) -> list[WorstRecord]:
    """Returns the worst private records of one student of each technique and size.

    Worst by what the student has more than its counterfactual, or by its accuracy where it has
    none; the student is that of the first replicate and seed.
    """
    accuracies = data.accuracies
    if accuracies is None:
        return []
    students: dict[tuple[str, str, str | None], Cell] = {}
    for cell in sorted(accuracies.cells, key=lambda cell: (cell.replicate, cell.seed)):
        if cell.role == "student":
            students.setdefault((cell.family, cell.size, cell.technique), cell)
    known = data.record_table.drop_duplicates("record").set_index("record")["task"]
    shown = [cell for cell in accuracies.cells if cell in students.values()]
    return [worst for cell in shown for worst in _worst_of(accuracies, cell, known)]


def _worst_of(accuracies: Accuracies, student: Cell, tasks: pd.Series) -> Iterator[WorstRecord]:
    others = [
        other
        for cell, other in accuracies.pairs()
        if cell == student and other.role == "counterfactual"
    ]
    teachers = accuracies.teachers(student)
    written = accuracies.of(student, PRIVATE)
    columns = {
        "accuracy": written,
        "counterfactual": _mean(accuracies, others),
        "teacher": _mean(accuracies, teachers),
    }
    table = pd.DataFrame(columns).loc[written.index]
    table["excess"] = table["accuracy"] - table["counterfactual"].fillna(0.0)
    ranked = table.sort_values(["excess", "accuracy", "teacher"], ascending=False, kind="stable")
    for record, row in ranked.head(SHOWN_PER_STUDENT).iterrows():
        task = tasks[str(record)]
        yield WorstRecord(
            student,
            str(record),
            None if pd.isna(task) else str(task),
            **{name: float(row[name]) for name in columns},
            writers=(*teachers, student),
        )


def _mean(accuracies: Accuracies, cells: Sequence[Cell]) -> pd.Series:
    every = [accuracies.of(cell, PRIVATE) for cell in cells]
    return pd.concat(every, axis=1).mean(axis=1) if every else pd.Series(dtype=float)


def worst_records_table(data: StudyData, worst: Sequence[WorstRecord]) -> tables.PageTable:
    """Returns the records by id, with figures and which tokens match; no text."""
    written = _Written()
    accuracies = ("accuracy", "counterfactual", "teacher")
    frame = pd.DataFrame(
        [
            {"run": kept.student.alias, "record": kept.record, "task": kept.task}
            | {name: getattr(kept, name) for name in accuracies}
            for kept in worst
        ]
    )
    patterns = [
        {
            "label": data.labels[kept.student.alias],
            "by_teacher": written.pattern(kept.writers[0], kept.record)
            if len(kept.writers) > 1
            else None,
            "by_student": written.pattern(kept.student, kept.record),
        }
        for kept in worst
    ]
    columns = [
        *tables.words(data.notes, label="Model", record="Record", task="Task"),
        tables.number("Student’s accuracy", "accuracy", ".3f"),
        tables.number("Counterfactual’s", "counterfactual", ".3f"),
        tables.number("Teacher’s", "teacher", ".3f"),
        *tables.words(by_teacher="Teacher’s text", by_student="Student’s text"),
    ]
    shown = frame.assign(task=tables.spoken(frame["task"])).join(pd.DataFrame(patterns))
    caption = "Worst private records, by id"
    return tables.table("worst_records", caption, columns, shown, frame, apart=False)


def revealed(data: StudyData, worst: Sequence[WorstRecord]) -> list[Terms]:
    """Returns the records in words, as far as the runs' private folders are at hand."""
    written = _Written()
    shown = []
    for kept in worst:
        texts = [(cell, written.of(cell).get(kept.record)) for cell in kept.writers]
        _, by_student = texts[-1]
        if by_student is None:
            continue
        tokenizer = written.tokenizer(kept.student)
        plain = {"Prompt": by_student.prompt_ids, "Truth": by_student.true_ids}
        entries = [
            (name, [("".join(pieces(tokenizer, ids)), False)]) for name, ids in plain.items()
        ]
        entries += [
            (data.labels[cell.alias], spans(written.tokenizer(cell), text))
            for cell, text in texts
            if text is not None
        ]
        title = f"{data.labels[kept.student.alias]} · {kept.record}"
        shown.append(Terms(title, [(name, _marked(parts)) for name, parts in entries]))
    return shown


def _marked(parts: Sequence[tuple[str, bool]]) -> Markup:
    """Returns a text with those of its parts marked that match."""
    inner = Markup("").join(
        Markup("<mark>{}</mark>").format(text) if matches else text for text, matches in parts
    )
    return Markup("<pre>{}</pre>").format(inner)


class _Written:
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

    def pattern(self, cell: Cell, record: str) -> str | None:
        """Returns a mark for each true token: whether the model wrote it at its place."""
        text = self.of(cell).get(record)
        return "".join(_MATCH if same else _OTHER for same in text.matches) if text else None


def spans(tokenizer: PreTrainedTokenizerBase, text: Continuation) -> list[tuple[str, bool]]:
    """Returns what a model wrote, cut where its tokens begin or cease to match the true ones."""
    flags = [*text.matches, *[False] * len(text.written_ids)]
    parts: list[tuple[str, bool]] = []
    for piece, matches in zip(pieces(tokenizer, text.written_ids), flags, strict=False):
        if parts and parts[-1][1] == matches:
            parts[-1] = (parts[-1][0] + piece, matches)
        else:
            parts.append((piece, matches))
    return parts


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Returns the text that each token adds; special tokens are shown by name.

    A token that ends inside a character adds nothing; the one that completes it adds all of it.
    """
    added: list[str] = []
    shown = ""
    for count in range(1, len(ids) + 1):
        text = str(tokenizer.decode(list(ids[:count]), skip_special_tokens=False))
        whole = count == len(ids) or not text.endswith(_REPLACEMENT)
        added.append(text[len(shown) :] if whole else "")
        shown = text if whole else shown
    return added
