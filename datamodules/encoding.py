"""From a record's text to its token ids, the same for training, sampling and audits."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from datamodules.chats import turn_text
from datamodules.encoded import EncodedRecord as EncodedRecord
from datamodules.layout import DEFAULT_ENCODING as DEFAULT_ENCODING
from datamodules.layout import EncodingOptions as EncodingOptions
from datamodules.layout import Layout, Limits, SeparateLayout
from datamodules.prompts import question
from datamodules.records import InstructionRecord
from datamodules.spelled_tokens import spelled
from datamodules.templates import (
    ALPACA,
    EXAMPLE,
    ChatTemplate,
    PromptTemplate,
    Template,
    require_kind,
)
from datamodules.tokenizer import beginning_ids, pad_id, special_tokens
from datamodules.whole_text import WholeLayout

Scored = Literal["assistant", "last", "all"]
SpecialTokens = Literal["split", "parse"]


def require_scored(score: str) -> None:
    """Refuses what names no tokens to score.

    Raises:
        UserError: Naming what does.
    """
    if score not in get_args(Scored):
        raise UserError(f"score is {score!r}: choose assistant, last or all")


class RecordEncoder:
    """Turns records into tokens within a window, and says which of them are scored.

    The tokenizer's own beginning token (OPT's `</s>`, LLaMA's `<s>`, none for GPT-2) comes once,
    also where the template writes it. Training, sampled text and audits all take their ids from
    here.

    With two format strings (Alpaca's) prompt and response are tokenised separately. A SentencePiece
    tokenizer puts its word-start mark before any text it is given, so a LLaMA response begins with
    a word-start token although the prompt ends in a line break; decoding drops that mark again, so
    response ids decode to the response. Every other template is tokenised with its record as a
    whole.

    A prompt is what stands before the last turn of the assistant. Over `max_prompt_tokens` it
    loses, in format strings, its context from the end, then its instruction from the end, and a
    context cut to nothing leaves its heading; in a chat its oldest exchanges, then the text of
    what is left, the last user's turn last; without a template its beginning. A response that
    does not fit with its end is cut and carries none: nothing teaches the model to stop there.

    Args:
        tokenizer: a fast tokenizer that has an eos token.
        template: from `datamodules.templates.chosen_template`.
        max_prompt_tokens: most tokens of a prompt, beginning token included.
        max_tokens: most tokens of prompt, response and end together.
        options: where published codes do otherwise.
        score: which tokens are scored: assistant, all turns of the assistant; last, its last one;
            all, everything but the first token.
        special_tokens_in_text: whether users' words that spell a special token are that token
            (parse) or words (split); None parses them in chats alone, as trainers do.

    Raises:
        UserError: no eos token, a window too small for the template and one token, or an option
            that is none.
        ValueError: joint tokens, and prompts of the template do not all end alike.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template = ALPACA,
        max_prompt_tokens: int = 256,
        max_tokens: int = 512,
        options: EncodingOptions = DEFAULT_ENCODING,
        score: Scored = "assistant",
        special_tokens_in_text: SpecialTokens | None = None,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path!r} has no eos token to end responses with"
            )
        require_scored(score)
        if special_tokens_in_text not in (None, "split", "parse"):
            raise UserError(
                f"special_tokens_in_text is {special_tokens_in_text!r}: choose split or parse"
            )
        self.tokenizer = tokenizer
        self.template = template
        self.max_prompt_tokens = max_prompt_tokens
        self.max_tokens = max_tokens
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id = pad_id(tokenizer)
        self.options = options
        self.score = score
        parses = isinstance(template, ChatTemplate)
        self.special_tokens_in_text: SpecialTokens = special_tokens_in_text or (
            "parse" if parses else "split"
        )
        self.beginning_ids = tuple(beginning_ids(tokenizer)) if options.add_bos else ()
        self.end_ids: tuple[int, ...] = (self.eos_id,)
        self._rows: int | None = None
        self._special = special_tokens(tokenizer)
        self._spelled = re.compile("|".join(map(re.escape, self._special)) or "(?!)")
        self._layout = self._make_layout(Limits(max_prompt_tokens, max_tokens))

    def _make_layout(self, limits: Limits) -> SeparateLayout | WholeLayout:
        parse = self.special_tokens_in_text == "parse"
        if isinstance(self.template, PromptTemplate):
            return SeparateLayout(
                self.tokenizer, self.template, limits, self.options, self.beginning_ids, parse
            )
        if self.options.joint or self.options.cut != "content":
            raise UserError(
                "data.encoding.joint and data.encoding.cut are options of the template alpaca: "
                "other templates are tokenised as a whole"
            )
        layout = WholeLayout(
            self.tokenizer, self.template, limits, self.beginning_ids, self._spelled, parse
        )
        self.beginning_ids, self.end_ids = layout.probe(EXAMPLE, self.end_ids)
        return layout

    def with_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> "RecordEncoder":
        """The same encoder for another model's tokenizer, in whose special tokens a chat template
        is rendered.
        """
        template = self.template
        if isinstance(template, ChatTemplate):
            template = ChatTemplate.of(template.name, template.source, tokenizer)
        return RecordEncoder(
            tokenizer,
            template,
            self.max_prompt_tokens,
            self.max_tokens,
            self.options,
            self.score,
            self.special_tokens_in_text,
        )

    def with_template(self, template: Template) -> "RecordEncoder":
        """An encoder for the same model and window, with another template's own options.

        Raises:
            UserError: the template does not fit into the window.
        """
        limits = (self.max_prompt_tokens, self.max_tokens)
        options = EncodingOptions(add_bos=self.options.add_bos)
        other = RecordEncoder(self.tokenizer, template, *limits, options, self.score)
        if self._rows is not None:
            other.limit_rows(self._rows)
        return other

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
        return self._encode_all(records, self.score)

    def encode_last(self, records: Sequence[InstructionRecord]) -> list[EncodedRecord]:
        """The same with the last turn of the assistant as response, whatever is scored: what a
        model is asked to write.
        """
        return self._encode_all(records, "last")

    def encode_rewritten(
        self, records: Sequence[InstructionRecord], responses: Sequence[str]
    ) -> list[EncodedRecord]:
        """The same prompts with other responses, such as perturbed copies.

        Args:
            records: the records.
            responses: one text for each; empty text has no response ids.

        Raises:
            UserError: a record with several turns that are scored.
        """
        pairs = zip(records, responses, strict=True)
        return self.encode_all([self._rewritten(record, text) for record, text in pairs])

    def scored_text(self, record: InstructionRecord) -> str:
        """The words of a record that are scored, as far as the record has them."""
        if self.score == "all":
            return "\n".join(part for part in (question(record), record.response) if part)
        if self.score == "last" or record.chat is None:
            return record.response
        return "\n".join(
            turn_text(one) for one in record.chat.messages if one["role"] == "assistant"
        )

    def require_rewritable(self, record: InstructionRecord) -> None:
        """Refuses a record with several scored turns, of which another response replaces one.

        Raises:
            UserError: with the record's place.
        """
        before = () if record.chat is None else record.chat.messages[:-1]
        if self.score != "last" and any(one["role"] == "assistant" for one in before):
            raise UserError(
                f"{record.origin}: an attack that rewrites the response cannot rewrite several "
                "scored turns: give the score last"
            )

    def _rewritten(self, record: InstructionRecord, text: str) -> InstructionRecord:
        if record.chat is None:
            return replace(record, response=text)
        self.require_rewritable(record)
        *before, last = record.chat.messages
        messages = (*before, {**last, "content": text})
        return replace(record, response=text, chat=replace(record.chat, messages=messages))

    def _encode_all(
        self, records: Sequence[InstructionRecord], score: Scored
    ) -> list[EncodedRecord]:
        for record in records:
            require_kind(self.template, record)
        layouts = self._layout.lay_out(records)
        return [self._encoded(*pair, score) for pair in zip(records, layouts, strict=True)]

    def _encoded(self, record: InstructionRecord, layout: Layout, score: Scored) -> EncodedRecord:
        turns = layout.turns if score == "assistant" else layout.turns[-1:]
        if score == "all":
            turns = ((0, len(layout.ids)),)
        if not record.response:
            turns = ()
        # No model predicts the first token: nothing stands before it.
        places = [place for first, last in turns for place in range(max(first, 1), last)]
        if record.response and not places:
            raise UserError(f"{record.origin}: no token of the response is left to score")
        start = places[0] if places else layout.turns[-1][0]
        end = places[-1] + 1 if places else start
        self._require_rows(record.origin, layout.ids[:end])
        scored = None
        if len(places) < end - start:
            marked = set(places)
            scored = tuple(place in marked for place in range(start, end))
        cut = layout.response_cut
        return EncodedRecord(
            record.id,
            record.task,
            layout.ids[:start],
            layout.ids[start:end],
            layout.prompt_cut,
            cut,
            layout.merged,
            scored,
            sum(len(self._spelled.findall(text)) for text in spelled(record)),
            unended=bool(places) and not cut and not self._ends(layout.ids[end - 1]),
        )

    def _ends(self, token: int) -> bool:
        return token in self.end_ids or token == self.eos_id

    def _require_rows(self, where: str, ids: Sequence[int]) -> None:
        missing = next((i for i in ids if self._rows is not None and i >= self._rows), None)
        if missing is not None:
            raise UserError(
                f"{where}: its token {self.tokenizer.convert_ids_to_tokens(missing)!r} is number "
                f"{missing}, but the model has {self._rows} rows and the tokenizer "
                f"{len(self.tokenizer)} tokens: remove the text, or give the model's own tokenizer"
            )
