"""Chat templates: a conversation as text, and where in it the assistant's turns are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any, cast

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from common.errors import UserError, first_line
from datamodules.chats import Chat
from datamodules.prompts import Rendered, Span, question
from datamodules.records import InstructionRecord
from datamodules.tokenizer import special_tokens

Message = Mapping[str, object]

CHAT = "chat"
"""Name of a tokenizer's own template."""

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

_STAND_IN = "\ue000\ue001"
"""A text that no message holds."""

_REFUSALS = (
    *(jinja2.TemplateError, TypeError, ValueError, LookupError),
    *(ArithmeticError, AttributeError, RecursionError),
)
"""What rendering raises where a template does not take a conversation."""


def conversation(record: InstructionRecord) -> Chat:
    """The record's conversation; of one that is none, the user's question and its answer."""
    if record.chat is not None:
        return record.chat
    user = {"role": "user", "content": question(record)}
    return Chat((user, {"role": "assistant", "content": record.response}))


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template that renders conversations as transformers does.

    The assistant's turns are where the template's generation mask has them (`{% generation %}`).
    Where it has none, or one that is empty, they are found by rendering: a turn begins where the
    conversation before it, asked for an answer, ends, and ends where the conversation up to it
    does. A template that shows a turn otherwise once it is not the last (thinking that it strips)
    is rendered with another text in the turn's place: what stays the same on both sides is not the
    turn's. A turn holds its end token; a line break behind that is the template's.

    Attributes:
        name: chat, or the template's file.
        source: the Jinja text.
        special: special tokens by the names that a template may call them by.
        ends: special tokens, of which one may end a turn.
    """

    name: str
    source: str
    special: Mapping[str, str]
    ends: tuple[str, ...]

    @classmethod
    def of(cls, name: str, source: str, tokenizer: PreTrainedTokenizerBase) -> "ChatTemplate":
        """The template with the special tokens of a tokenizer."""
        return cls(name, source, tokenizer.special_tokens_map, special_tokens(tokenizer))

    def render(self, record: InstructionRecord) -> Rendered:
        """The record's text and the assistant's turns in it.

        Raises:
            UserError: the template refuses the conversation, or a turn cannot be found in it.
        """
        chat = conversation(record)
        try:
            text, masked = self._render(chat.messages, chat.tools, mask=True)
        except _REFUSALS as error:
            raise UserError(
                f"{record.origin}: the template {self.name} refuses this conversation: "
                f"{first_line(error)}"
            ) from error
        places = [i for i, one in enumerate(chat.messages) if one["role"] == "assistant"]
        spans = [span for span in masked if span[0] < span[1]]
        if spans:
            start, _ = self._turn(chat, places[-1], text) or spans[-1]
            response = [span for span in spans if span[1] > start] or spans[-1:]
            earlier = spans[: len(spans) - len(response)]
            turns = [*earlier, (response[0][0], response[-1][1])]
        else:
            found = [self._turn(chat, place, text) for place in places]
            turns = [span for span in found if span is not None]
            if len(turns) < len(places):
                place = places[found.index(None)]
                raise UserError(
                    f"{record.origin}: where message {place + 1}, the assistant's, stands in the "
                    f"text cannot be told from the template {self.name}: mark it there by "
                    "{% generation %}"
                )
        turns = [self._without_break(text, span) for span in turns]
        if any(start >= end for start, end in turns[-1:]) or turns != sorted(turns):
            raise UserError(
                f"{record.origin}: the template {self.name} shows nothing of the last message"
            )
        return Rendered(text, tuple(turns), ended=True)

    def text(self, chat: Chat) -> str:
        """A conversation's text alone."""
        return self._render(chat.messages, chat.tools)[0]

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, object]],
        ask: bool = False,
        mask: bool = False,
    ) -> tuple[str, list[Span]]:
        marked = mask and _GENERATION.search(self.source) is not None

        def rendered(messages: Sequence[Message]) -> tuple[list[str], list[list[Span]]]:
            # Its annotation says str.
            return cast(Any, render_jinja_template)(
                [list(messages)],
                tools=list(tools) or None,
                chat_template=self.source,
                return_assistant_tokens_mask=marked,
                add_generation_prompt=ask,
                **self.special,
            )

        try:
            texts, spans = rendered(messages)
        except TypeError:  # not every template takes a tool call whose content is null
            texts, spans = rendered([{**one, "content": one["content"] or ""} for one in messages])
        return texts[0], [(start, end) for start, end in spans[0]] if marked else []

    def _turn(self, chat: Chat, place: int, text: str) -> Span | None:
        """Where the assistant's message at a place stands; None where that cannot be told."""
        before = chat.messages[:place]
        start = self._end_of(before, chat, text, ask=True)
        end = self._end_of(chat.messages[: place + 1], chat, text, ask=False)
        # A template that asks for no answer may name the assistant in front of its words.
        named = start is not None and start == self._end_of(before, chat, text, ask=False)
        if named or start is None or end is None:
            inner = self._changed_by(chat, place, text)
            if inner is not None and (start is None or text[start : inner[0]].strip()):
                start = inner[0]
            if inner is not None and end is None:
                end = inner[1]
        return None if start is None or end is None or end < start else (start, end)

    def _end_of(self, messages: Sequence[Message], chat: Chat, text: str, ask: bool) -> int | None:
        """Where the text of the first messages ends, if the whole text begins with it."""
        try:
            beginning, _ = self._render(messages, chat.tools, ask)
        except _REFUSALS:
            return None
        return len(beginning) if text.startswith(beginning) else None

    def _changed_by(self, chat: Chat, place: int, text: str) -> Span | None:
        """What changes with a message's text, with the end token behind it."""
        message = chat.messages[place]
        if not message["content"]:
            return None
        other = [*chat.messages]
        other[place] = {**message, "content": _STAND_IN, "reasoning_content": None}
        try:
            changed, _ = self._render(other, chat.tools)
        except _REFUSALS:
            return None
        start = len(commonprefix([text, changed]))
        if not changed[start:].startswith(_STAND_IN):
            return None
        end = len(text) - len(changed[start + len(_STAND_IN) :])
        if end < start or text[end:] != changed[start + len(_STAND_IN) :]:
            return None
        return start, end + max((len(e) for e in self.ends if text.startswith(e, end)), default=0)

    def _without_break(self, text: str, span: Span) -> Span:
        """The turn without white space behind its end token."""
        start, end = span
        kept = text[start:end].rstrip()
        return (start, start + len(kept)) if kept.endswith(self.ends) else span
