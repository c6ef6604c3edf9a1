"""Instruction records: what one is, which name it has, and how it is read from a source."""

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.errors import UserError
from datamodules.record_files import read_rows

TASKS = (
    "brainstorming",
    "classification",
    "closed_qa",
    "generation",
    "information_extraction",
    "open_qa",
    "summarization",
)
_TASK_OF_CATEGORY = {
    **{task: task for task in TASKS},
    "creative_writing": "generation",
    "general_qa": "generation",
}
_CONTEXT_NAMES = ("context", "input")
_RESPONSE_NAMES = ("response", "output")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class InstructionRecord:
    """One instruction with the response that a model is to learn.

    Attributes:
        id: the record's own id, or its content's hash (`content_id`).
        instruction: what is asked; never empty.
        context: the passage it is asked about, "" if none.
        response: the reference answer.
        task: one of `TASKS`.
        origin: where it was read ("file.jsonl:12"), for messages.
    """

    id: str
    instruction: str
    context: str
    response: str
    task: str
    origin: str

    @property
    def content(self) -> str:
        """Hash of the three texts: the same for two records that say the same."""
        return content_id(self.instruction, self.context, self.response)


def normalise(text: str) -> str:
    """NFC, each run of white space one space, stripped; case is kept."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def content_id(instruction: str, context: str, response: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the normalised texts, U+001F between them.

    >>> content_id("Name a colour.", "", "Red") == content_id(" Name  a colour.", "", "Red")
    True
    """
    text = "\x1f".join(normalise(part) for part in (instruction, context, response))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def read_records(
    source: str,
    *,
    hub_split: str = "train",
    allow_empty_response: bool = False,
    default_task: str | None = None,
) -> list[InstructionRecord]:
    """All records of a file, a `datasets` folder or a hub data set, in their order.

    Args:
        source: .jsonl, .json, .csv or .parquet file, folder of `save_to_disk`, or hub name. Fields:
            instruction; context or input (may be absent); response or output; category (a task or
            one of Dolly's categories); id (optional).
        hub_split: split to take where the source has several.
        allow_empty_response: keep records that nothing can be scored on (an audit counts them as
            skipped).
        default_task: task of records that have no category; None makes a missing category an error.

    Returns:
        The records; duplicates are kept.

    Raises:
        UserError: anything that is not as described, with file and line; an own id that two
            different contents share; no record at all.
    """
    rows = read_rows(source, hub_split)
    return records_from_rows(rows, source, allow_empty_response, default_task)


def records_from_rows(
    rows: Iterable[tuple[str, Mapping[str, object]]],
    source: str,
    allow_empty_response: bool = False,
    default_task: str | None = None,
) -> list[InstructionRecord]:
    """All records of some rows, in their order.

    Args:
        rows: where each row stands, and its fields; see `read_records`.
        source: what all of them are called in an error.
        allow_empty_response: keep records that nothing can be scored on.
        default_task: task of records that have no category; None makes a missing category an error.

    Raises:
        UserError: as `read_records`.
    """
    if default_task is not None and default_task not in TASKS:
        raise UserError(
            f"default_task: unknown task {default_task!r}; the tasks are {', '.join(TASKS)}"
        )
    records = [_record(row, origin, allow_empty_response, default_task) for origin, row in rows]
    if not records:
        raise UserError(f"{source}: holds no record")
    _refuse_shared_ids(records)
    return records


def _record(
    row: Mapping[str, object], origin: str, allow_empty_response: bool, default_task: str | None
) -> InstructionRecord:
    instruction = _text(row, ("instruction",), origin, required=True)
    context = _text(row, _CONTEXT_NAMES, origin, required=False)
    response = _text(row, _RESPONSE_NAMES, origin, required=True)
    if not instruction.strip():
        raise UserError(f"{origin}: empty instruction")
    if not response.strip():
        if not allow_empty_response:
            raise UserError(f"{origin}: empty response; give one or remove the record")
        response = ""
    return InstructionRecord(
        id=_own_id(row, origin) or content_id(instruction, context, response),
        instruction=instruction,
        context=context if context.strip() else "",
        response=response,
        task=_task(row, origin, default_task),
        origin=origin,
    )


def _text(row: Mapping[str, object], names: tuple[str, ...], origin: str, required: bool) -> str:
    """The text of a field that goes by one of several names."""
    present = {name: row[name] for name in names if row.get(name) is not None}
    for name, value in present.items():
        if not isinstance(value, str):
            raise UserError(f"{origin}: field {name!r} must be text, found {type(value).__name__}")
        if _SURROGATE.search(value):
            raise UserError(
                f"{origin}: field {name!r} holds half a surrogate pair, which is no character"
            )
    texts = {str(value) for value in present.values() if value}
    if len(texts) > 1:
        raise UserError(
            f"{origin}: fields {' and '.join(map(repr, present))} differ; keep one of them"
        )
    if not present and required:
        known = ", ".join(map(str, row)) or "none"
        raise UserError(f"{origin}: missing field {' or '.join(map(repr, names))}; it has {known}")
    return texts.pop() if texts else ""


def _task(row: Mapping[str, object], origin: str, default_task: str | None) -> str:
    if row.get("category") is None and default_task is not None:
        return default_task
    category = _text(row, ("category",), origin, required=True)
    if category not in _TASK_OF_CATEGORY:
        near = difflib.get_close_matches(category, _TASK_OF_CATEGORY, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"{origin}: unknown category {category!r}; {hint}known: "
            f"{', '.join(sorted(_TASK_OF_CATEGORY))}"
        )
    return _TASK_OF_CATEGORY[category]


def _own_id(row: Mapping[str, object], origin: str) -> str | None:
    value = row.get("id")
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UserError(
            f"{origin}: field 'id' must be text or a whole number, found {type(value).__name__}"
        )
    return str(value)


def _refuse_shared_ids(records: list[InstructionRecord]) -> None:
    first: dict[str, InstructionRecord] = {}
    for record in records:
        other = first.setdefault(record.id, record)
        if other is not record and other.content != record.content:
            raise UserError(
                f"{record.origin}: id {record.id!r} already names another record at "
                f"{other.origin}; ids must be unique"
            )
