"""Fields of a row: which kind of record they make, and how each is read."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from itertools import chain

from common.errors import UserError

Row = Mapping[str, object]


class RecordKind(StrEnum):
    """What a record asks of a model; members are named as tables and messages write them."""

    instruction = auto()
    """An instruction, with or without a context, and its response."""
    completion = auto()
    """A text and what follows it, or a question and its answer."""
    chat = auto()
    """Turns of a conversation."""
    text = auto()
    """Text without a prompt."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Fields that together make a record.

    Attributes:
        kind: what they make.
        fields: names of each field that must be there; of several names one.
    """

    kind: RecordKind
    fields: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return ", ".join("|".join(names) for names in self.fields)


INSTRUCTION = Layout(RecordKind.instruction, (("instruction",), ("response", "output")))
MESSAGES = Layout(RecordKind.chat, (("messages",),))
CONVERSATIONS = Layout(RecordKind.chat, (("conversations",),))
COMPLETION = Layout(RecordKind.completion, (("prompt",), ("completion",)))
QUESTION = Layout(RecordKind.completion, (("question",), ("answer",)))
TEXT = Layout(RecordKind.text, (("text",),))
LAYOUTS = (INSTRUCTION, MESSAGES, CONVERSATIONS, COMPLETION, QUESTION, TEXT)
"""The first one that a row has whole is what the row is; its other fields are not read."""

CONTEXT_NAMES = ("context", "input")
_ALIASES = (CONTEXT_NAMES, ("response", "output"))
_FIELDS = (
    *(name for layout in LAYOUTS for names in layout.fields for name in names),
    *(*CONTEXT_NAMES, "tools", "category", "id", "subject", "sensitive"),
)
_NOTHING = re.compile("[\\s\u200b-\u200f\u2060-\u2064\ufeff\u00ad]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def renamed(rows: Sequence[tuple[str, Row]], columns: Mapping[str, str]) -> list[tuple[str, Row]]:
    """Rows under the names of fields that records have.

    Args:
        rows: where each row stands, and its fields.
        columns: field of a record -> the column that holds it; it takes the place of a column that
            has the field's name.

    Raises:
        UserError: a field that no record has, or a column that is in no row.
    """
    for field, column in columns.items():
        if field not in _FIELDS:
            raise UserError(f"columns: no record has a field {field!r}; name {', '.join(_FIELDS)}")
        if rows and not any(column in row for _, row in rows):
            origin, first = rows[0]
            raise UserError(
                f"{origin}: there is no field {column!r}, which columns names for {field!r}; it "
                f"has {told_fields(first)}"
            )
    gone = {*columns, *columns.values()}
    for names in _ALIASES:
        gone |= set() if set(columns).isdisjoint(names) else set(names)
    return [
        (
            origin,
            {name: value for name, value in row.items() if name not in gone}
            | {field: row[column] for field, column in columns.items() if column in row},
        )
        for origin, row in rows
    ]


def told_fields(names: Collection[object]) -> str:
    """Names of fields for a message: those that records have, or nearly; others are counted.

    What a file without a header, or with its columns the wrong way, has for names may be private
    text.

    >>> told_fields(["instrution", "Anna was born in Ulm.", "tag"])
    'instrution and 2 more'
    """
    known = [
        name
        for name in map(str, names)
        if difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.75)
    ]
    others = len(names) - len(known)
    if not known:
        return {0: "no field", 1: "a field of another name"}.get(
            others, f"{others} fields of other names"
        )
    return ", ".join(known) + (f" and {others} more" if others else "")


def layout_of(row: Row, origin: str, named: Collection[str] = ()) -> Layout:
    """Says what a row is.

    Args:
        row: its fields.
        origin: where it stands, for errors.
        named: fields that the reader was told of, which come first.

    Raises:
        UserError: It has the fields of no layout whole, or none of any.
    """
    layouts = sorted(LAYOUTS, key=lambda one: set(named).isdisjoint(chain(*one.fields)))
    lacking: tuple[str, ...] = ()
    for layout in layouts:
        missing = [n for n in layout.fields if all(row.get(name) is None for name in n)]
        if not missing:
            return layout
        if len(missing) < len(layout.fields):
            lacking = lacking or missing[0]
    known = told_fields(row)
    if lacking:
        names = " or ".join(map(repr, lacking))
        raise UserError(f"{origin}: missing field {names}; it has {known}")
    raise UserError(
        f"{origin}: has {known}; a record has one of these groups: "
        f"{'; '.join(map(str, LAYOUTS))} (`columns` renames fields)"
    )


def text_field(row: Row, names: tuple[str, ...], origin: str) -> str:
    """The text of a field that goes by one of several names; "" where it is not there.

    Raises:
        UserError: something that is no text, or two names that say different things.
    """
    present = {name: row[name] for name in names if row.get(name) is not None}
    for name, value in present.items():
        if not isinstance(value, str):
            raise UserError(f"{origin}: field {name!r} must be text, found {type(value).__name__}")
        require_characters(value, name, origin)
    texts = {str(value) for value in present.values() if value}
    if len(texts) > 1:
        raise UserError(
            f"{origin}: fields {' and '.join(map(repr, present))} differ; keep one of them"
        )
    return texts.pop() if texts else ""


def require_characters(text: str, field: str, origin: str) -> None:
    """Refuses text that no encoding can write.

    Raises:
        UserError: half a surrogate pair.
    """
    if _SURROGATE.search(text):
        raise UserError(
            f"{origin}: field {field!r} holds half a surrogate pair, which is no character"
        )


def has_characters(text: str) -> bool:
    r"""Tells whether a text has anything to be seen: space and zero-width characters are nothing.

    >>> has_characters(" \u200b\n"), has_characters("a")
    (False, True)
    """
    return not _NOTHING.fullmatch(text)


def name_field(row: Row, name: str, origin: str) -> str:
    """A name or number as text; "" where it is not there.

    Raises:
        UserError: something else.
    """
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(
            f"{origin}: field {name!r} must be text or a whole number, found {type(value).__name__}"
        )
    try:
        text = str(value)
    except ValueError as error:
        raise UserError(f"{origin}: field {name!r} has more digits than can be read") from error
    require_characters(text, name, origin)
    return text
