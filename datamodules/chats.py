"""Conversations as chat templates take them, out of the forms in which files hold them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import UserError
from datamodules.strict_json import AmbiguousJsonError, parse_json

_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
_ROLE_OF = {
    **{role: role for role in _ROLES},
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "observation": "tool",
}
_STAGE_DIRECTIONS = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation whose last turn is the assistant's.

    Attributes:
        messages: turns as chat templates take them: role, content (text; None where the file says
            null beside tool calls, which some templates ask for) and what else the file gives, such
            as tool_calls. Nothing else in them is null.
        tools: descriptions of the tools that may be called.
    """

    messages: tuple[Mapping[str, object], ...]
    tools: tuple[Mapping[str, object], ...] = ()

    @property
    def prompt(self) -> str:
        """Texts of all turns before the last, a line break between them."""
        return "\n".join(map(turn_text, self.messages[:-1]))

    @property
    def response(self) -> str:
        """Text of the last turn."""
        return turn_text(self.messages[-1])

    @property
    def spoken(self) -> str:
        """Texts of all turns but system ones, which whole data sets share."""
        return "\n".join(
            turn_text(one) for one in self.messages if one["role"] not in _STAGE_DIRECTIONS
        )

    @property
    def parts(self) -> list[str]:
        """Texts that the hash of the content covers: role, content and the rest of each turn."""
        found = []
        for message in self.messages:
            rest = {name: message[name] for name in message if name not in ("role", "content")}
            found += [str(message["role"]), str(message["content"] or ""), _canonical(rest)]
        return [*found, _canonical(self.tools)]


def turn_text(message: Mapping[str, object]) -> str:
    """What a turn says: its content, or its tool calls as JSON where it has no content."""
    if message["content"]:
        return str(message["content"])
    return _canonical(message["tool_calls"]) if "tool_calls" in message else ""


def chat_of(messages: object, tools: object, origin: str, field: str) -> Chat:
    """Reads a conversation.

    Args:
        messages: list of turns, each with role and content or, as ShareGPT has them, from and
            value; or that list as JSON.
        tools: list of descriptions, that list as JSON, or None.
        origin: where the row stands, for errors.
        field: name of the field that holds the turns, for errors.

    Raises:
        UserError: anything else, or a conversation that does not end with the assistant; no text of
            it is told.
    """
    turns = [
        _message(turn, f"{origin}: message {number} of {field!r}")
        for number, turn in enumerate(_listed(messages, origin, field), start=1)
    ]
    if not turns:
        raise UserError(f"{origin}: field {field!r} holds no message")
    if turns[-1]["role"] != "assistant":
        raise UserError(
            f"{origin}: message {len(turns)} of {field!r}, the last one, is of the role "
            f"{turns[-1]['role']!r}: end with the assistant's, or leave the rest out"
        )
    described = []
    for number, tool in enumerate(_listed(tools or [], origin, "tools"), start=1):
        if not isinstance(tool, Mapping):
            raise UserError(f"{origin}: tool {number} must be an object, found {_kind(tool)}")
        described.append(_present(tool))
    return Chat(tuple(turns), tuple(described))


def _listed(value: object, origin: str, field: str) -> list[object]:
    found = value
    if isinstance(value, str):
        try:
            found = parse_json(value)
        except json.JSONDecodeError:
            found = value
        except AmbiguousJsonError as error:
            raise UserError(f"{origin}: field {field!r} holds {error}") from error
    if not isinstance(found, list | tuple):
        raise UserError(f"{origin}: field {field!r} must be a list, found {_kind(value)}")
    return list(found)


def _message(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must be an object with role and content, found {_kind(value)}")
    rest = {name: one for name, one in _present(value).items() if not isinstance(one, list) or one}
    role, content = rest.pop("role", rest.pop("from", None)), _content(rest, where)
    if not isinstance(role, str) or role.lower() not in _ROLE_OF:
        fault = "no role" if role is None else "an unknown role"
        raise UserError(f"{where} has {fault}; the roles are {', '.join(_ROLE_OF)}")
    if content is None and "tool_calls" not in rest:
        raise UserError(f"{where} has neither content nor tool_calls")
    return {"role": _ROLE_OF[role.lower()], "content": content, **rest}


def _content(message: dict[str, object], where: str) -> str | None:
    """Takes the text out of a message; parts of type text are joined."""
    content = message.pop("content", message.pop("value", None))
    if not isinstance(content, list | tuple):
        if content is not None and not isinstance(content, str):
            raise UserError(f"{where}: its content must be text, found {_kind(content)}")
        return content
    texts = [one.get("text") if isinstance(one, Mapping) else one for one in content]
    kinds = [one.get("type", "text") if isinstance(one, Mapping) else "text" for one in content]
    if any(kind != "text" for kind in kinds) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: its content has a part that is no text; only text is read")
    return "".join(map(str, texts))


def _without_nulls(value: object) -> object:
    """A value without the nulls that Arrow writes for what other rows have."""
    if isinstance(value, Mapping):
        return _present(value)
    return [_without_nulls(one) for one in value] if isinstance(value, list | tuple) else value


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {str(name): _without_nulls(one) for name, one in fields.items() if one is not None}


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _kind(value: object) -> str:
    return type(value).__name__
