"""Records: what one is, which name it has, and how it is read from a source."""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from common.errors import UserError
from datamodules.chats import Chat, chat_of
from datamodules.record_fields import (
    COMPLETION,
    CONTEXT_NAMES,
    INSTRUCTION,
    Layout,
    RecordKind,
    has_characters,
    layout_of,
    name_field,
    renamed,
    require_characters,
    text_field,
)
from datamodules.record_files import read_rows
from datamodules.sensitive import MOST_TYPES, SensitiveSpan, by_type, sensitive_field

TASKS = (
    "brainstorming",
    "classification",
    "closed_qa",
    "generation",
    "information_extraction",
    "open_qa",
    "summarization",
)
MOST_TASKS = 64
_DOLLY = {"creative_writing": "generation", "general_qa": "generation"}


@dataclass(frozen=True, slots=True)
class InstructionRecord:
    """One text that a model is to learn, and what it is asked with.

    Attributes:
        id: its own id as it is read, or its content's hash; every data module gives it another
            name (`record_names`).
        instruction: what is asked: of a completion its prompt, of a chat the texts of all turns
            before the last; of a text "".
        context: the passage it is asked about, "" if none.
        response: the reference answer: of a chat the last turn, of a text all of it.
        task: a name that its file gives it, such as one of `TASKS`; "" without one.
        origin: where it was read ("file.jsonl:12"), for messages.
        kind: what the record is; all records of a file are of one kind.
        chat: the conversation; None but of a chat.
        subject: the person or document that it belongs to, None if that is not known.
        sensitive: parts of the response that its owner would least like a model to write.
    """

    id: str
    instruction: str
    context: str
    response: str
    task: str
    origin: str
    kind: RecordKind = RecordKind.instruction
    chat: Chat | None = field(default=None, hash=False)
    subject: str | None = None
    sensitive: tuple[SensitiveSpan, ...] = ()

    @property
    def content(self) -> str:
        """Hash of all that the record says: the same for two records that say the same."""
        return _content(self.instruction, self.context, self.response, self.chat)

    @property
    def row(self) -> dict[str, object]:
        """Its fields, from which `records_from_rows` makes the same record."""
        shared = {
            "id": self.id,
            "category": self.task or None,
            "subject": self.subject,
            "sensitive": by_type(self.sensitive),
        }
        if self.chat is not None:
            return {**shared, "messages": self.chat.messages, "tools": self.chat.tools or None}
        if self.kind == RecordKind.text:
            return {**shared, "text": self.response}
        if self.kind == RecordKind.completion:
            return {**shared, "prompt": self.instruction, "completion": self.response}
        texts = {name: getattr(self, name) for name in ("instruction", "context", "response")}
        return {**shared, **texts}


def normalise(text: str) -> str:
    """NFC, each run of white space one space, stripped; case is kept."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def content_id(*parts: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the normalised texts, U+001F between them.

    >>> content_id("Name a colour.", "", "Red") == content_id(" Name  a colour.", "", "Red")
    True
    """
    text = "\x1f".join(normalise(part) for part in parts)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def read_records(
    source: str,
    *,
    hub_split: str = "train",
    allow_empty_response: bool = False,
    default_task: str | None = None,
    columns: Mapping[str, str] | None = None,
    streaming: bool = False,
    max_rows: int | None = None,
) -> list[InstructionRecord]:
    """All records of a file, a `datasets` folder or a hub data set, in their order.

    Args:
        source: .jsonl, .json, .csv (each also with .gz) or .parquet file, folder of `save_to_disk`,
            or hub name. Fields: instruction, response or output, and context or input if there is
            one; or messages, and tools if there are any; or conversations; or prompt and
            completion, both texts or both lists of messages; or question and answer; or text.
            Beside them category, id, subject, sensitive.
        hub_split: split to take where the source has several.
        allow_empty_response: keep records that nothing can be scored on (an audit counts them as
            skipped).
        default_task: task of records that have no category; None leaves them without one.
        columns: fields of a record that have other names here -> those names.
        streaming: take the rows of a hub data set as they come, without a copy on disk.
        max_rows: read the first so many; None reads all.

    Returns:
        The records; duplicates are kept.

    Raises:
        UserError: anything that is not as described, with file and line; an own id that two
            different contents share; rows of two kinds; no record at all.
    """
    rows = read_rows(source, hub_split, streaming, max_rows)
    return records_from_rows(rows, source, allow_empty_response, default_task, columns)


def records_from_rows(
    rows: Iterable[tuple[str, Mapping[str, object]]],
    source: str,
    allow_empty_response: bool = False,
    default_task: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[InstructionRecord]:
    """All records of some rows, in their order.

    Args:
        rows: where each row stands, and its fields; see `read_records`.
        source: what all of them are called in an error.
        allow_empty_response: keep records that nothing can be scored on.
        default_task: task of records that have no category; None leaves them without one.
        columns: fields of a record that have other names here -> those names.

    Raises:
        UserError: as `read_records`.
    """
    records, first, names = [], None, columns or {}
    for origin, row in renamed(list(rows), names):
        layout = layout_of(row, origin, names)
        try:
            record = _record(row, origin, layout, allow_empty_response, default_task)
        except RecursionError as error:
            raise UserError(f"{origin}: its fields are nested too deep") from error
        first = first or (layout, record)
        if (layout, record.kind) != (first[0], first[1].kind):
            raise UserError(
                f"{origin}: has the fields {layout} ({record.kind}), where {first[1].origin} has "
                f"{first[0]} ({first[1].kind}): give one kind of rows per file"
            )
        records.append(record)
    if not records:
        raise UserError(f"{source}: holds no record")
    if (n_tasks := len({record.task for record in records})) > MOST_TASKS:
        raise UserError(
            f"{source}: the field 'category' has {n_tasks} names, more than {MOST_TASKS}; each is "
            "a task of its own in tables: give coarser ones, or leave the field out"
        )
    if (
        n_types := len({span.type for record in records for span in record.sensitive})
    ) > MOST_TYPES:
        raise UserError(
            f"{source}: the field 'sensitive' has {n_types} types, more than {MOST_TYPES}: give "
            "coarser ones"
        )
    _refuse_shared_ids(records)
    return records


def _record(
    row: Mapping[str, object],
    origin: str,
    layout: Layout,
    allow_empty_response: bool,
    default_task: str | None,
) -> InstructionRecord:
    chat = _chat(row, origin, layout)
    *asked, answered = layout.fields
    if chat is not None:
        instruction, context, response = chat.prompt, "", chat.response
    else:
        instruction = text_field(row, asked[0], origin) if asked else ""
        context = text_field(row, CONTEXT_NAMES, origin) if layout is INSTRUCTION else ""
        response = text_field(row, answered, origin)
        if asked and not has_characters(instruction):
            raise UserError(f"{origin}: empty {asked[0][0]}")
    if not has_characters(response):
        if not allow_empty_response:
            what = answered[0] if chat is None else "last message"
            raise UserError(f"{origin}: empty {what}; give one or remove the record")
        response = ""
    context = context if has_characters(context) else ""
    category = name_field(row, "category", origin).strip() or default_task or ""
    return InstructionRecord(
        id=name_field(row, "id", origin) or _content(instruction, context, response, chat),
        instruction=instruction,
        context=context,
        response=response,
        task=_DOLLY.get(category, category),
        origin=origin,
        kind=layout.kind if chat is None else RecordKind.chat,
        chat=chat,
        subject=name_field(row, "subject", origin) or None,
        sensitive=tuple(sensitive_field(row, response, origin)),
    )


def _chat(row: Mapping[str, object], origin: str, layout: Layout) -> Chat | None:
    """The conversation of a row, None where it holds none."""
    field, messages = str(layout), row.get(layout.fields[-1][0])
    if layout is COMPLETION:
        prompt = row["prompt"]
        if isinstance(prompt, str) and isinstance(messages, str):
            return None
        if not isinstance(prompt, list | tuple) or not isinstance(messages, list | tuple):
            raise UserError(
                f"{origin}: 'prompt' and 'completion' must be both text or both lists of messages"
            )
        messages = [*prompt, *messages]
    elif layout.kind != RecordKind.chat:
        return None
    chat = chat_of(messages, row.get("tools"), origin, field)
    for part in chat.parts:
        require_characters(part, field, origin)
    return chat


def _content(instruction: str, context: str, response: str, chat: Chat | None) -> str:
    parts = (instruction, context, response) if chat is None else chat.parts
    return content_id(*parts)


def _refuse_shared_ids(records: list[InstructionRecord]) -> None:
    first: dict[str, InstructionRecord] = {}
    for record in records:
        other = first.setdefault(record.id, record)
        if other is not record and other.content != record.content:
            raise UserError(
                f"{record.origin}: its id already names another record at {other.origin}; ids must "
                "be unique"
            )
