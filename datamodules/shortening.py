"""A conversation that is too long for a prompt, made shorter from its oldest end."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from datamodules.chat_template import Message, conversation
from datamodules.chats import Chat
from datamodules.records import InstructionRecord, RecordKind


def shortened(
    record: InstructionRecord,
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    prompt_tokens: Callable[[InstructionRecord], int],
) -> InstructionRecord:
    """The record with as much of its conversation as a prompt may hold.

    First whole exchanges go, each a user's turn and what follows it, the oldest first. Of what is
    left before the response, texts lose their beginning, one message after the other, the last
    user's turn last. Messages stay, so that the template's frame is whole.

    Args:
        record: whose prompt is too long.
        tokenizer: says where a text may be cut.
        limit: most tokens of a prompt.
        prompt_tokens: tokens of a record's prompt.

    Raises:
        UserError: the prompt's frame alone is too long.
    """
    chat = conversation(record)

    def told(messages: list[Message]) -> InstructionRecord:
        return replace(record, kind=RecordKind.chat, chat=Chat(tuple(messages), chat.tools))

    def fits(messages: list[Message]) -> bool:
        return prompt_tokens(told(messages)) <= limit

    messages = list(chat.messages)
    starts = _exchanges(messages)
    while len(starts) > 1 and not fits(messages):
        del messages[starts[0] : starts[1]]
        starts = _exchanges(messages)
    last_user = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=-1)
    order = [place for place in range(len(messages) - 1) if place != last_user]
    for place in [*order, *([last_user] if last_user >= 0 else [])]:
        if fits(messages):
            break
        messages = _without_beginning(messages, place, tokenizer, fits)
    if not fits(messages):
        raise UserError(
            f"{record.origin}: without any of its words the prompt still has "
            f"{prompt_tokens(told(messages))} tokens, but max_prompt_tokens is {limit}: raise it"
        )
    return told(messages)


def _without_beginning(
    messages: list[Message],
    place: int,
    tokenizer: PreTrainedTokenizerBase,
    fits: Callable[[list[Message]], bool],
) -> list[Message]:
    """The messages, one of which has lost as few of its first words as lets them fit, or all."""
    text = str(messages[place]["content"] or "")
    cuts = _cuts(text, tokenizer)

    def cut_at(k: int) -> list[Message]:
        return [
            *messages[:place],
            {**messages[place], "content": text[cuts[k] :]},
            *messages[place + 1 :],
        ]

    if not cuts:
        return messages
    return cut_at(bisect_left(range(len(cuts) - 1), True, key=lambda k: fits(cut_at(k))))


def _exchanges(messages: list[Message]) -> list[int]:
    """Where exchanges begin: at a user's turn that follows no other one of the user."""
    roles = [str(one["role"]) for one in messages]
    return [
        place
        for place, role in enumerate(roles)
        if role == "user" and (place == 0 or roles[place - 1] != "user")
    ]


def _cuts(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Where a text may begin instead: at each of its tokens but the first, and behind it all."""
    if not text:
        return []
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return sorted({start for start, _ in found["offset_mapping"]} - {0} | {len(text)})
