"""Templates: how a record becomes the text that a model reads, and which of it the model writes."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from common.errors import UserError
from common.options import given_path
from datamodules.chat_template import CHAT, ChatTemplate
from datamodules.prompts import ALPACA as ALPACA
from datamodules.prompts import PromptTemplate as PromptTemplate
from datamodules.prompts import Rendered, question
from datamodules.records import InstructionRecord, RecordKind

EXAMPLE = InstructionRecord(
    "example", "Name a colour.", "Sky at noon.", "Blue.", "open_qa", "the built-in example"
)
"""What messages show templates on; it is nobody's."""


@dataclass(frozen=True, slots=True)
class PlainTemplate:
    """No template: the response stands right behind the prompt, and no space is invented.

    A text is all response. An instruction's context follows it after an empty line.
    """

    def render(self, record: InstructionRecord) -> Rendered:
        """The record's text, all of which behind the prompt the model writes.

        Raises:
            UserError: the record is a chat.
        """
        require_kind(self, record)
        prompt = question(record) if record.kind != RecordKind.text else ""
        text = prompt + record.response
        return Rendered(text, ((len(prompt), len(text)),), ended=False)


Template = PromptTemplate | PlainTemplate | ChatTemplate
"""PromptTemplate tokenises prompt and response apart; the others the whole text at once."""

NONE = PlainTemplate()


def template_name(template: Template) -> str:
    """What a run calls a template: alpaca, none, chat, or its file."""
    if isinstance(template, ChatTemplate):
        return template.name
    return "none" if isinstance(template, PlainTemplate) else "alpaca"


def template_hash(template: Template) -> str | None:
    """SHA-256 of a template's text; of alpaca's two texts, one behind the other; None of none."""
    if isinstance(template, PlainTemplate):
        return None
    if isinstance(template, PromptTemplate):
        text = template.with_context + template.without_context
    else:
        text = template.source
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def whole_text(template: Template, record: InstructionRecord) -> str:
    """All that a model reads and writes of a record, but for an eos that the encoder adds."""
    if isinstance(template, PromptTemplate):
        return template.render(record.instruction, record.context) + record.response
    return template.render(record).text


def chosen_template(
    name: str | None, records: Sequence[InstructionRecord], tokenizer: PreTrainedTokenizerBase
) -> Template:
    """The template that a run asks for, or the one that its records leave no doubt about.

    Args:
        name: alpaca; chat, the tokenizer's own; none; or a Jinja file, rendered as chat templates
            are. None takes chat for messages and none for texts.
        records: what it has to fit, any number.
        tokenizer: whose chat template and special tokens are used.

    Raises:
        UserError: no such template, one that does not fit the records, or no name where it is
            needed.
    """
    if name is None:
        name = _default(records, tokenizer)
    template = _named(name, any(r.chat and r.chat.tools for r in records), tokenizer)
    for record in records:
        require_kind(template, record)
    return template


def require_kind(template: Template, record: InstructionRecord) -> None:
    """Refuses a record that a template has no way to show.

    Raises:
        UserError: with the record's place.
    """
    kind, name = record.kind, template_name(template)
    if kind == RecordKind.chat and not isinstance(template, ChatTemplate):
        raise UserError(
            f"{record.origin}: chat messages do not fit the template {name}: give the template "
            "chat, or a Jinja file"
        )
    if kind == RecordKind.text and not isinstance(template, PlainTemplate):
        raise UserError(
            f"{record.origin}: a text has no prompt for the template {name}: give the template none"
        )


def known_templates(
    records: Sequence[InstructionRecord], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Template]:
    """The templates without a file that fit some records and this tokenizer, by name."""
    known: dict[str, Template] = {}
    for name in ("alpaca", "chat", "none"):
        try:
            known[name] = chosen_template(name, records, tokenizer)
        except UserError:  # it does not fit
            continue
    return known


def _named(name: str, tools: bool, tokenizer: PreTrainedTokenizerBase) -> Template:
    if name == "alpaca":
        return ALPACA
    if name == "none":
        return NONE
    return (
        _chat(tools, tokenizer) if name == CHAT else ChatTemplate.of(name, _read(name), tokenizer)
    )


def _chat(tools: bool, tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer {tokenizer.name_or_path!r} has no chat template (a base model's has "
            "none): give the template as a Jinja file, the one that the model was trained with"
        )
    source = tokenizer.get_chat_template(tools=[{}] if tools else None)
    return ChatTemplate.of(CHAT, source, tokenizer)


def _read(name: str) -> str:
    path = given_path(name)
    if not path.is_file():
        raise UserError(
            f"template {name!r}: there is no such file; give alpaca, chat, none or a Jinja file"
        )
    try:
        source = path.read_text(encoding="utf-8")
        render_jinja_template([], chat_template=source)
    except UnicodeDecodeError as error:
        raise UserError(f"template {name}: this is no UTF-8 text ({error.reason})") from error
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"template {name}:{error.lineno}: {error.message}") from error
    return source


def _default(records: Iterable[InstructionRecord], tokenizer: PreTrainedTokenizerBase) -> str:
    kinds = {record.kind for record in records}
    if kinds == {RecordKind.chat}:
        return "chat"
    if kinds == {RecordKind.text}:
        return "none"
    known: dict[str, Template] = {"alpaca": ALPACA, "none": NONE}
    if tokenizer.chat_template:
        known["chat"] = _chat(False, tokenizer)
    looks = "; ".join(f"{name}: {whole_text(one, EXAMPLE)!r}" for name, one in known.items())
    raise UserError(
        "template is missing (--template of kd-privacy audit, else --data.template): say how the "
        "model was trained to read these records, alpaca, chat, none or a Jinja file; the built-in "
        f"example is under {looks}"
    )
