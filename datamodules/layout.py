"""A record as tokens, before anybody asks which of them are scored: prompt and response apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from datamodules.prompts import PromptTemplate, Span
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class EncodingOptions:
    """Where published codes turn the same record into other tokens.

    Attributes:
        add_bos: Begin a prompt with the token that the tokenizer begins texts with (OPT's `</s>`,
            LLaMA's `<s>`; GPT-2 has none).
        joint: Tokenise a response behind the prompt's last words instead of by itself. The tokens
            after as many as the prompt has by itself count as the response. Where the last of the
            prompt and the first of the response merge, the prompt keeps its own tokens, so that it
            is the same whatever follows, and the response loses the characters that went into the
            merged one; such records are counted (`EncodedRecord.boundary_merged`).
        cut: What a prompt that is too long loses: "content" is its context, then its instruction,
            each from the end; "end" is its end, the cue for the response first of all.
    """

    add_bos: bool = True
    joint: bool = False
    cut: Literal["content", "end"] = "content"

    def __post_init__(self) -> None:
        """Check the choice.

        Raises:
            UserError: `cut` is something else.
        """
        if self.cut not in ("content", "end"):
            raise UserError(f"data.encoding.cut is {self.cut!r}: choose content or end")


DEFAULT_ENCODING = EncodingOptions()


@dataclass(frozen=True, slots=True)
class Limits:
    """Most tokens of a prompt, beginning token included, and of a whole record with its end."""

    prompt: int
    whole: int

    def __post_init__(self) -> None:
        """Check that a response has room.

        Raises:
            UserError: a prompt may fill everything.
        """
        if not 0 < self.prompt < self.whole:
            raise UserError(
                f"max_prompt_tokens ({self.prompt}) must be at least 1 and below "
                f"max_tokens ({self.whole}), which holds prompt and response"
            )


@dataclass(frozen=True, slots=True)
class Layout:
    """A record's tokens.

    Attributes:
        ids: all of them, beginning token included.
        turns: which of them the model writes, in order; the last turn is the response, without
            tokens where the record has none.
        prompt_cut: what stands before the response lost something.
        response_cut: the response lost its end, or only its end token.
        merged: a token holds characters of a prompt and of a turn.
    """

    ids: tuple[int, ...]
    turns: tuple[Span, ...]
    prompt_cut: bool
    response_cut: bool
    merged: bool


class SeparateLayout:
    """Tokenises prompt and response of two format strings apart.

    Args:
        tokenizer: a fast tokenizer that has an eos token.
        template: the format strings.
        limits: most tokens.
        options: where published codes do otherwise.
        beginning_ids: the tokenizer's own beginning token, or nothing.
        parse: text that spells a special token is that token.

    Raises:
        UserError: a window too small for the template and one token.
        ValueError: joint tokens, and prompts of the template do not all end alike.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate,
        limits: Limits,
        options: EncodingOptions,
        beginning_ids: tuple[int, ...],
        parse: bool,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.limits = limits
        self.options = options
        self.beginning_ids = beginning_ids
        self.parse = parse
        self._cue = template.cue if options.joint else ""
        self._cue_ids = self._ids([self._cue])[0] if options.joint else []
        self._check_template()

    def lay_out(self, records: Sequence[InstructionRecord]) -> list[Layout]:
        """Tokens of many records, tokenised together."""
        prompts = self._ids([self.template.render(r.instruction, r.context) for r in records])
        responses = self._response_ids([record.response for record in records])
        found = []
        for record, prompt, (response, merged) in zip(records, prompts, responses, strict=True):
            whole = (*self.beginning_ids, *prompt)
            cut = len(whole) > self.limits.prompt
            kept = self._cut_prompt(record, whole) if cut else whole
            target, response_cut = self._target(kept, record.response, response)
            ids = (*kept, *target)
            found.append(Layout(ids, ((len(kept), len(ids)),), cut, response_cut, merged))
        return found

    def _target(
        self, prompt: Sequence[int], text: str, ids: Sequence[int]
    ) -> tuple[tuple[int, ...], bool]:
        room = self.limits.whole - len(prompt)
        if not text:
            return (), False
        if len(ids) + 1 > room:
            return tuple(ids[:room]), True
        return (*ids, self.tokenizer.eos_token_id), False

    def _response_ids(self, texts: list[str]) -> list[tuple[list[int], bool]]:
        """Ids of responses, and whether one shares a token with the prompt.

        Behind the cue alone, since no token reaches over it: every prompt ends in the same words.
        """
        n_cue = len(self._cue_ids)
        together = self._ids([self._cue + text for text in texts])
        return [(ids[n_cue:], ids[:n_cue] != self._cue_ids) for ids in together]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Ids without special tokens of the tokenizer's own."""
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False, split_special_tokens=not self.parse)[
            "input_ids"
        ]

    def _cut_prompt(self, record: InstructionRecord, whole: tuple[int, ...]) -> tuple[int, ...]:
        if self.options.cut == "end":
            return whole[: self.limits.prompt]
        has_context = bool(record.context)

        def with_context(text: str) -> tuple[int, ...]:
            return self._prompt(record.instruction, text, has_context)

        def with_instruction(text: str) -> tuple[int, ...]:
            return self._prompt(text, "", has_context)

        if has_context and len(with_context("")) <= self.limits.prompt:
            return self._longest(record.context, with_context)
        return self._longest(record.instruction, with_instruction)

    def _prompt(self, instruction: str, context: str, has_context: bool) -> tuple[int, ...]:
        text = self.template.fill(instruction, context, has_context)
        return (*self.beginning_ids, *self._ids([text])[0])

    def _longest(self, text: str, build: Callable[[str], tuple[int, ...]]) -> tuple[int, ...]:
        """The prompt with the longest run of whole tokens from the start of `text` that fits."""
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [0, *sorted({end for _, end in offsets["offset_mapping"]} - {0})]
        limit = self.limits.prompt
        kept = min(max(limit - len(build("")), 0), len(ends) - 1)
        prompt = build(text[: ends[kept]])
        while len(prompt) > limit and kept > 0:
            kept -= 1
            prompt = build(text[: ends[kept]])
        while kept + 1 < len(ends) and len(longer := build(text[: ends[kept + 1]])) <= limit:
            kept, prompt = kept + 1, longer
        return prompt

    def _check_template(self) -> None:
        if self.options.cut == "end":
            return
        needed = max(len(self._prompt("", "", has_context)) for has_context in (False, True)) + 1
        if needed > self.limits.prompt:
            raise UserError(
                f"the prompt template and one token take {needed} tokens, but max_prompt_tokens is "
                f"{self.limits.prompt}; give at least {needed}"
            )
