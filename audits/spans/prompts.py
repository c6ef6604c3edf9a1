"""Questions that are not the record's own: its instruction reworded, and generic prompts."""

from dataclasses import replace
from functools import cache

from common.prose import prose
from datamodules.chats import Chat
from datamodules.record_fields import RecordKind
from datamodules.records import InstructionRecord


@cache
def rewordings() -> tuple[str, ...]:
    """Wordings of a question; ``{}`` is the record's own instruction."""
    return tuple(prose(__file__)["rewordings"])


@cache
def generic_prompts() -> tuple[str, ...]:
    """What somebody asks who knows nothing of the records."""
    return tuple(prose(__file__)["generic"])


def reworded(record: InstructionRecord, wording: str) -> InstructionRecord | None:
    """Returns a record that is asked for in other words; None where nobody asks.

    Of a chat it is the last turn of a user that is reworded, of which a text has none.
    """
    if record.kind == RecordKind.text:
        return None
    if record.chat is None:
        return replace(record, instruction=wording.replace("{}", record.instruction))
    messages = list(record.chat.messages)
    asked = [place for place, one in enumerate(messages) if one["role"] == "user"]
    if not asked or not isinstance(messages[asked[-1]]["content"], str):
        return None
    own = messages[asked[-1]]
    messages[asked[-1]] = {**own, "content": wording.replace("{}", str(own["content"]))}
    chat = replace(record.chat, messages=tuple(messages))
    return replace(record, instruction=chat.prompt, chat=chat)


def generic_records(alike: InstructionRecord) -> list[InstructionRecord]:
    """Returns the generic prompts as records without a response, of a kind that a template takes.

    Args:
        alike: A record of the data. To a model of texts a prompt is how a text begins.
    """
    kind = RecordKind.completion if alike.kind == RecordKind.text else alike.kind
    return [
        InstructionRecord(
            id=f"generic-{number}",
            instruction=prompt,
            context="",
            response="",
            task="",
            origin=f"generic prompt {number}",
            kind=kind,
            chat=_asked(prompt) if kind == RecordKind.chat else None,
        )
        for number, prompt in enumerate(generic_prompts())
    ]


def _asked(prompt: str) -> Chat:
    user = {"role": "user", "content": prompt}
    return Chat((user, {"role": "assistant", "content": ""}))
