"""Sensitive spans: the parts of a response that its owner would least like a model to write."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from common.errors import UserError
from datamodules.strict_json import parse_json

MOST_TYPES = 32
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,31}")


@dataclass(frozen=True, slots=True)
class SensitiveSpan:
    """A text within a response.

    Attributes:
        text: what the response says there.
        type: what it is, such as name or number: it stands in tables, and spans of one type are
            ranked among each other.
    """

    text: str
    type: str


def holds(text: str, span: str) -> bool:
    """Tells whether a text has a span as words of its own, not inside of other words.

    >>> holds("Call 4071 now", "4071"), holds("Call 40715 now", "4071")
    (True, False)
    """
    return re.search(rf"(?<!\w){re.escape(span)}(?!\w)", text) is not None


def sensitive_field(row: Mapping[str, object], response: str, origin: str) -> list[SensitiveSpan]:
    """The sensitive spans of a row, each once.

    Args:
        row: its field `sensitive` is a text, a list of texts, or texts or lists by type, also as
            JSON. A text without a type is an email, a number (with a digit) or words.
        response: what has to hold them.
        origin: where the row stands, for errors, which never say what a span says.

    Raises:
        UserError: something else, a span that the response does not hold, or a type that is no
            short name.
    """
    found: dict[str, SensitiveSpan] = {}
    for number, (kind, text) in enumerate(_entries(row.get("sensitive"), origin), start=1):
        where = f"{origin}: sensitive span number {number}"
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where} must be a text, found {type(text).__name__} or nothing")
        if text not in response:
            raise UserError(
                f"{where} is not in the response: copy it as the response writes it, or remove it"
            )
        found.setdefault(text, SensitiveSpan(text, _form(text) if kind is None else kind))
    return list(found.values())


def by_type(spans: tuple[SensitiveSpan, ...]) -> dict[str, list[str]] | None:
    """Texts by type, as a row holds them; None where there is no span."""
    found: dict[str, list[str]] = {}
    for span in spans:
        found.setdefault(span.type, []).append(span.text)
    return found or None


def _entries(field: object, origin: str) -> Iterator[tuple[str | None, object]]:
    """Yields type and text of each entry of a field, which a cell of a table may hold as JSON."""
    if isinstance(field, str) and field[:1] in ("[", "{"):
        try:
            field = parse_json(field)
        except ValueError as error:
            raise UserError(f"{origin}: field 'sensitive' is no JSON: {error}") from error
    if field is None or field == "":
        return
    if isinstance(field, Mapping):
        for kind, texts in field.items():
            if not _TYPE.fullmatch(str(kind)):
                raise UserError(
                    f"{origin}: a type of the field 'sensitive' is no short name: give letters, "
                    "such as name or number"
                )
            yield from ((str(kind).lower(), text) for text in _listed(texts, origin))
    else:
        yield from ((None, text) for text in _listed(field, origin))


def _listed(texts: object, origin: str) -> list[object]:
    if texts is None:
        return []
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, list | tuple):
        raise UserError(
            f"{origin}: field 'sensitive' must be a list of texts, or lists by type, found "
            f"{type(texts).__name__}"
        )
    return list(texts)


def _form(text: str) -> str:
    if "@" in text:
        return "email"
    return "number" if any(character.isdigit() for character in text) else "words"
