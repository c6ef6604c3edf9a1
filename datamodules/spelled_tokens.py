"""Special tokens that users' own words spell out, such as `<|im_end|>` in a question about it."""

import re

from common.errors import UserError
from datamodules.chat_template import ChatTemplate, conversation
from datamodules.chats import Chat
from datamodules.prompts import Rendered, Span
from datamodules.records import InstructionRecord

_MARK, _FIRST = "\ue000", 0xE100


def spelled(record: InstructionRecord) -> list[str]:
    """The texts of a record in which users may have spelt a special token."""
    if record.chat is None:
        return [record.instruction, record.context, record.response]
    return [str(one["content"] or "") for one in record.chat.messages]


def places_of(
    record: InstructionRecord, rendered: Rendered, template: object, pattern: re.Pattern[str]
) -> list[Span]:
    """Where users' words spell special tokens in a record's text, as a template renders it.

    Args:
        record: the record.
        rendered: its text.
        template: a `ChatTemplate`; under another one all of the text is users' words.
        pattern: matches special tokens.

    Raises:
        UserError: the template reads these words and writes other ones for them, or the record
            holds the character that marks them.
    """
    if not isinstance(template, ChatTemplate):
        return [match.span() for match in pattern.finditer(rendered.text)]
    if not any(map(pattern.search, spelled(record))):
        return []
    if _MARK in rendered.text:
        raise UserError(
            f"{record.origin}: it spells a special token and holds U+E000, by which such words are "
            "found again: remove that character, or give special_tokens_in_text parse"
        )
    tokens: list[str] = []

    def marked(match: re.Match[str]) -> str:
        tokens.append(match.group())
        return _MARK + chr(_FIRST + len(tokens) - 1)

    chat = conversation(record)
    messages = tuple(
        {**one, "content": pattern.sub(marked, str(one["content"]))} if one["content"] else one
        for one in chat.messages
    )
    text = template.text(Chat(messages, chat.tools))
    spans: list[Span] = []
    while (place := text.find(_MARK)) >= 0:
        token = tokens[ord(text[place + 1]) - _FIRST]
        text = text[:place] + token + text[place + 2 :]
        spans.append((place, place + len(token)))
    if text != rendered.text:
        raise UserError(
            f"{record.origin}: the template {template.name} reads the special token {tokens[0]!r} "
            "in this record's words: give special_tokens_in_text parse"
        )
    return spans
