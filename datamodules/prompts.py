"""Prompt templates: what a record looks like to a model."""

from dataclasses import dataclass

from datamodules.records import InstructionRecord

Span = tuple[int, int]
"""First place and the place behind the last, of characters or of tokens."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A record's whole text.

    Attributes:
        text: all of it.
        turns: what the model writes of it, in order, each with the end that the template gives it;
            the last one is the response.
        ended: whether the template itself ends a turn, so that no eos is to follow the text.
    """

    text: str
    turns: tuple[Span, ...]
    ended: bool


def question(record: InstructionRecord) -> str:
    """Instruction and context as one text, an empty line between them."""
    return "\n\n".join(part for part in (record.instruction, record.context) if part)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Two format strings, for records with and without a context.

    Attributes:
        with_context: holds `{instruction}` and `{context}` once each.
        without_context: holds `{instruction}` once.
    """

    with_context: str
    without_context: str

    def __post_init__(self) -> None:
        """Refuse a template that would lose or repeat part of a record."""
        wanted = (
            ("with_context", self.with_context, {"{instruction}": 1, "{context}": 1}),
            ("without_context", self.without_context, {"{instruction}": 1, "{context}": 0}),
        )
        for name, text, counts in wanted:
            for field, count in counts.items():
                if text.count(field) != count:
                    raise ValueError(f"{name} must hold {field} {count} time(s): {text!r}")

    @property
    def cue(self) -> str:
        """The text between the last field and the response.

        Raises:
            ValueError: records with and without a context have different ones, or none.
        """
        _, _, tail = self.without_context.partition("{instruction}")
        both = self.with_context.replace("{instruction}", "{context}")
        if not tail or tail != both.rpartition("{context}")[2]:
            raise ValueError(f"prompts do not all end alike: {self}")
        return tail

    def render(self, instruction: str, context: str) -> str:
        """The prompt's text; an empty context takes the template without one."""
        return self.fill(instruction, context, has_context=bool(context))

    def fill(self, instruction: str, context: str, has_context: bool) -> str:
        """The prompt's text with the template chosen by the caller.

        A context that truncation has used up leaves its record in the template with a context.
        """
        if not has_context:
            return self.without_context.replace("{instruction}", instruction)
        head, tail = self.with_context.split("{context}")
        if "{instruction}" in head:
            return head.replace("{instruction}", instruction) + context + tail
        return head + context + tail.replace("{instruction}", instruction)


ALPACA = PromptTemplate(
    with_context=(
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{context}\n\n### Response:\n"
    ),
    without_context=(
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Response:\n"
    ),
)
"""The template of Stanford Alpaca (github.com/tatsu-lab/stanford_alpaca), to the letter."""
