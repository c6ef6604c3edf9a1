"""From a record's text to its token ids, the same for training, sampling and audits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from datamodules.prompts import ALPACA, PromptTemplate
from datamodules.records import InstructionRecord
from datamodules.tokenizer import beginning_ids, pad_id


@dataclass(frozen=True, slots=True)
class EncodedRecord:
    """Token ids of a record.

    Attributes:
        record_id: id of the record.
        task: task of the record.
        prompt_ids: beginning token where the family has one, then the prompt.
        response_ids: the scored targets: the response and eos; without eos where the response was
            cut; empty where the record has no response.
        prompt_cut: context or instruction lost their end.
        response_cut: the response lost its end, or only its eos.
        boundary_merged: tokenised together, prompt and response share a token; see
            `EncodingOptions.joint`.
    """

    record_id: str
    task: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    prompt_cut: bool = False
    response_cut: bool = False
    boundary_merged: bool = False

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)


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


class RecordEncoder:
    """Tokenises prompts and responses, by default separately, within a window.

    The tokenizer's own beginning token (OPT's `</s>`, LLaMA's `<s>`, none for GPT-2) comes once,
    before the prompt. A SentencePiece tokenizer puts its word-start mark before any text it is
    given, so a LLaMA response begins with a word-start token although the prompt ends in a line
    break; decoding drops that mark again, so response ids decode to the response. Training, sampled
    text and audits all take their ids from here.

    A prompt over `max_prompt_tokens` loses its context from the end, then its instruction from the
    end; the template stays whole and a context cut to nothing leaves its heading. A response that
    does not fit with its eos is cut and carries no eos: nothing teaches the model to stop there.

    Args:
        tokenizer: a fast tokenizer that has an eos token.
        template: prompt template.
        max_prompt_tokens: most tokens of a prompt, beginning token included.
        max_tokens: most tokens of prompt, response and eos together.
        options: where published codes do otherwise.

    Raises:
        UserError: no eos token, or a window too small for the template and one token.
        ValueError: joint tokens, and prompts of the template do not all end alike.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: PromptTemplate = ALPACA,
        max_prompt_tokens: int = 256,
        max_tokens: int = 512,
        options: EncodingOptions = DEFAULT_ENCODING,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path!r} has no eos token to end responses with"
            )
        self.tokenizer = tokenizer
        self.template = template
        self.max_prompt_tokens = max_prompt_tokens
        self.max_tokens = max_tokens
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id = pad_id(tokenizer)
        self.options = options
        self.beginning_ids = tuple(beginning_ids(tokenizer)) if options.add_bos else ()
        self._cue = template.cue if options.joint else ""
        self._cue_ids = self._ids([self._cue])[0] if options.joint else []
        self._rows: int | None = None
        self._check_window()

    def limit_rows(self, rows: int) -> None:
        """Says how many tokens a model has rows for; a text that needs another one is refused.

        A tokenizer may have more, such as a padding token that was added and never trained.

        Args:
            rows: of the model's embedding; of several models the smallest number counts.

        Raises:
            UserError: if the end token has no row.
        """
        self._rows = rows if self._rows is None else min(rows, self._rows)
        if self.eos_id >= self._rows:
            raise UserError(
                f"the end token of {self.tokenizer.name_or_path!r} is number {self.eos_id}, but "
                f"the model has {self._rows} rows: it was trained with another tokenizer"
            )
        if self.pad_id >= self._rows:
            self.pad_id = self.eos_id

    def encode(self, record: InstructionRecord) -> EncodedRecord:
        """Token ids of one record; no response ids where its response is empty."""
        return self.encode_all([record])[0]

    def encode_all(self, records: Sequence[InstructionRecord]) -> list[EncodedRecord]:
        """Token ids of many records, tokenised together."""
        prompts = self._ids([self.template.render(r.instruction, r.context) for r in records])
        responses = self._response_ids([record.response for record in records])
        encoded = []
        for record, prompt, (response, merged) in zip(records, prompts, responses, strict=True):
            whole = (*self.beginning_ids, *prompt)
            cut = len(whole) > self.max_prompt_tokens
            kept = self._cut_prompt(record, whole) if cut else whole
            target, response_cut = self._target(kept, record.response, response)
            self._require_rows(record.origin, (*kept, *target))
            encoded.append(
                EncodedRecord(record.id, record.task, kept, target, cut, response_cut, merged)
            )
        return encoded

    def encode_text(
        self, record_id: str, task: str, prompt_ids: Sequence[int], response_text: str
    ) -> EncodedRecord:
        """The same prompt with another response, such as a teacher's text or a perturbed copy.

        Args:
            record_id: id of the record.
            task: task of the record.
            prompt_ids: ids that `encode` gave for the prompt, cut or not.
            response_text: the other response; empty text has no response ids.
        """
        prompt = tuple(prompt_ids)
        ids, merged = self._response_ids([response_text])[0]
        target, cut = self._target(prompt, response_text, ids)
        self._require_rows(f"another response to record {record_id}", target)
        return EncodedRecord(record_id, task, prompt, target, False, cut, merged)

    def _require_rows(self, where: str, ids: Sequence[int]) -> None:
        missing = next((i for i in ids if self._rows is not None and i >= self._rows), None)
        if missing is not None:
            raise UserError(
                f"{where}: its token {self.tokenizer.convert_ids_to_tokens(missing)!r} is number "
                f"{missing}, but the model has {self._rows} rows and the tokenizer "
                f"{len(self.tokenizer)} tokens: remove the text, or give the model's own tokenizer"
            )

    def _target(
        self, prompt: Sequence[int], text: str, ids: Sequence[int]
    ) -> tuple[tuple[int, ...], bool]:
        room = self.max_tokens - len(prompt)
        if not text:
            return (), False
        if len(ids) + 1 > room:
            return tuple(ids[:room]), True
        return (*ids, self.eos_id), False

    def _response_ids(self, texts: list[str]) -> list[tuple[list[int], bool]]:
        """Ids of responses, and whether one shares a token with the prompt.

        Behind the cue alone, since no token reaches over it: every prompt ends in the same words.
        """
        n_cue = len(self._cue_ids)
        together = self._ids([self._cue + text for text in texts])
        return [(ids[n_cue:], ids[:n_cue] != self._cue_ids) for ids in together]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Ids without special tokens; text that spells one ("</s>") is read as text."""
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]

    def _cut_prompt(self, record: InstructionRecord, whole: tuple[int, ...]) -> tuple[int, ...]:
        if self.options.cut == "end":
            return whole[: self.max_prompt_tokens]
        has_context = bool(record.context)

        def with_context(text: str) -> tuple[int, ...]:
            return self._prompt(record.instruction, text, has_context)

        def with_instruction(text: str) -> tuple[int, ...]:
            return self._prompt(text, "", has_context)

        if has_context and len(with_context("")) <= self.max_prompt_tokens:
            return self._longest(record.context, with_context)
        return self._longest(record.instruction, with_instruction)

    def _prompt(self, instruction: str, context: str, has_context: bool) -> tuple[int, ...]:
        text = self.template.fill(instruction, context, has_context)
        return (*self.beginning_ids, *self._ids([text])[0])

    def _longest(self, text: str, build: Callable[[str], tuple[int, ...]]) -> tuple[int, ...]:
        """The prompt with the longest run of whole tokens from the start of `text` that fits."""
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [0, *sorted({end for _, end in offsets["offset_mapping"]} - {0})]
        limit = self.max_prompt_tokens
        kept = min(max(limit - len(build("")), 0), len(ends) - 1)
        prompt = build(text[: ends[kept]])
        while len(prompt) > limit and kept > 0:
            kept -= 1
            prompt = build(text[: ends[kept]])
        while kept + 1 < len(ends) and len(longer := build(text[: ends[kept + 1]])) <= limit:
            kept, prompt = kept + 1, longer
        return prompt

    def _check_window(self) -> None:
        if not 0 < self.max_prompt_tokens < self.max_tokens:
            raise UserError(
                f"max_prompt_tokens ({self.max_prompt_tokens}) must be at least 1 and below "
                f"max_tokens ({self.max_tokens}), which holds prompt and response"
            )
        if self.options.cut == "end":
            return
        needed = max(len(self._prompt("", "", has_context)) for has_context in (False, True)) + 1
        if needed > self.max_prompt_tokens:
            raise UserError(
                f"the prompt template and one token take {needed} tokens, but max_prompt_tokens is "
                f"{self.max_prompt_tokens}; give at least {needed}"
            )
