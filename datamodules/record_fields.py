"""Fields of a row: which kind of record they make, and how each is read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto

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
_SURROGATE = re.compile("[\ud800-\udfff]")


def layout_of(row: Row, origin: str) -> Layout:
    """Says what a row is.

    Raises:
        UserError: It has the fields of no layout whole, or none of any.
    """
    missing = {
        layout: [n for n in layout.fields if all(row.get(name) is None for name in n)]
        for layout in LAYOUTS
    }
    for layout in LAYOUTS:
        if not missing[layout]:
            return layout
    known = ", ".join(map(str, row)) or "none"
    for layout in LAYOUTS:
        if len(missing[layout]) < len(layout.fields):
            lacking = " or ".join(map(repr, missing[layout][0]))
            raise UserError(f"{origin}: missing field {lacking}; it has {known}")
    raise UserError(
        f"{origin}: has the fields {known}; a record has one of these groups: "
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
    require_characters(str(value), name, origin)
    return str(value)
