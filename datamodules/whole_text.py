"""A record as tokens of its whole rendered text, and which of them a turn is made of."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from datamodules.chat_template import ChatTemplate
from datamodules.layout import Layout, Limits
from datamodules.prompts import Rendered, Span
from datamodules.records import InstructionRecord
from datamodules.shortening import shortened
from datamodules.spelled_tokens import places_of
from datamodules.templates import PlainTemplate


@dataclass(frozen=True)
class WholeLayout:
    """Tokenises a record as a whole, under a chat template or under none.

    A token that holds characters of a turn is the turn's, also where it begins before it.

    Attributes:
        tokenizer: a fast one, which says where its tokens stand.
        template: renders records.
        limits: most tokens.
        beginning: the tokenizer's own beginning token, or nothing.
        special: matches special tokens.
        parse: users' words that spell a special token are that token.
    """

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate | PlainTemplate
    limits: Limits
    beginning: tuple[int, ...]
    special: re.Pattern[str]
    parse: bool

    def __post_init__(self) -> None:
        """Check the tokenizer.

        Raises:
            UserError: it cannot say where its tokens stand.
        """
        if not self.tokenizer.is_fast:
            raise UserError(
                f"the tokenizer {self.tokenizer.name_or_path!r} does not say where its tokens "
                "stand in a text: give a fast one (tokenizer.json)"
            )

    def probe(
        self, example: InstructionRecord, end_ids: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What every prompt begins with, and what may end a response: asked of an example.

        Args:
            example: a record; nothing is learnt from a template that refuses it.
            end_ids: ends that are known.

        Returns:
            Beginning ids, with a beginning token that only the template writes; and end ids, with
            the template's own.
        """
        try:
            rendered = self.template.render(example)
        except UserError:
            return self.beginning, end_ids
        ids = self._tokens([rendered], [[]])[0].ids
        begins = ids[:1] == (self.tokenizer.bos_token_id,)
        start, end = rendered.turns[-1]
        last = next(
            (m for m in self.special.finditer(rendered.text, start) if m.end() == end), None
        )
        if last is not None and rendered.ended:
            own, _ = self._with_places([last.group()], split=False)[0]
            end_ids = tuple(dict.fromkeys([*end_ids, *own]))
        return (ids[:1] if begins else self.beginning), end_ids

    def lay_out(self, records: Sequence[InstructionRecord]) -> list[Layout]:
        """Tokens of many records, tokenised together.

        Raises:
            UserError: a template refuses a record, or the prompt's frame alone is too long.
        """
        rendered = [self.template.render(record) for record in records]
        pairs = zip(records, self._tokens(rendered, self._spelled(records, rendered)), strict=True)
        return [self._within(record, layout) for record, layout in pairs]

    def _within(self, record: InstructionRecord, layout: Layout) -> Layout:
        limit = self.limits.prompt
        cut = layout.turns[-1][0] > limit
        if cut and isinstance(self.template, PlainTemplate):
            lost = layout.turns[-1][0] - limit
            kept = (*self.beginning, *layout.ids[len(self.beginning) + lost :])
            layout = replace(layout, ids=kept, turns=((limit, len(kept)),))
        elif cut:
            layout = self._one(shortened(record, self.tokenizer, limit, self._prompt_tokens))
        ids, response_cut = layout.ids, False
        if isinstance(self.template, PlainTemplate) and record.response:
            ids = (*ids, self.tokenizer.eos_token_id)
        end = layout.turns[-1][1] + len(ids) - len(layout.ids)
        if end > self.limits.whole:
            ids, response_cut, end = ids[: self.limits.whole], True, self.limits.whole
        turns = (*layout.turns[:-1], (layout.turns[-1][0], end))
        return Layout(ids, turns, cut, response_cut, layout.merged)

    def _one(self, record: InstructionRecord) -> Layout:
        rendered = [self.template.render(record)]
        return self._tokens(rendered, self._spelled([record], rendered))[0]

    def _prompt_tokens(self, record: InstructionRecord) -> int:
        return self._one(record).turns[-1][0]

    def _spelled(
        self, records: Sequence[InstructionRecord], rendered: Sequence[Rendered]
    ) -> list[list[Span]]:
        """Where users' words spell special tokens that are to be words."""
        if self.parse:
            return [[] for _ in records]
        pairs = zip(records, rendered, strict=True)
        return [places_of(*pair, self.template, self.special) for pair in pairs]

    def _tokens(
        self, rendered: Sequence[Rendered], words: Sequence[Sequence[Span]]
    ) -> list[Layout]:
        if not rendered:
            return []
        found = self._with_places([one.text for one in rendered], split=False)
        texts = zip(rendered, words, found, strict=True)
        return [
            self._placed(one, *(self._split(one.text, spelt) if spelt else pair))
            for one, spelt, pair in texts
        ]

    def _with_places(self, texts: list[str], split: bool) -> list[tuple[list[int], list[Span]]]:
        found = self.tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=split,
            return_offsets_mapping=True,
        )
        return list(zip(found["input_ids"], found["offset_mapping"], strict=True))

    def _split(self, text: str, words: Sequence[Span]) -> tuple[list[int], list[Span]]:
        """Tokens of a text in which some special tokens are mere words.

        As a tokenizer does it: special tokens first, and by itself what stands between them.
        """
        ids: list[int] = []
        places: list[Span] = []
        specials = [m.span() for m in self.special.finditer(text) if m.span() not in set(words)]
        start = 0
        for first, last in [*specials, (len(text), len(text))]:
            for a, b, split in ((start, first, True), (first, last, False)):
                if a < b:
                    own, spans = self._with_places([text[a:b]], split)[0]
                    ids += own
                    places += [(x + a, y + a) for x, y in spans]
            start = last
        return ids, places

    def _placed(self, one: Rendered, ids: Sequence[int], places: Sequence[Span]) -> Layout:
        """Tokens with their turns; a space that is left out of a token's place is the token's."""
        added = () if tuple(ids[: len(self.beginning)]) == self.beginning else self.beginning
        starts, ends, behind = [], [], 0
        for start, end in places:
            starts.append(min(start, behind))
            behind = max(behind, end)
            ends.append(behind)
        turns, merged = [], False
        for first, last in one.turns:
            begin = bisect_left(ends, first + 1)
            stop = bisect_left(starts, last)
            merged |= begin < stop and starts[begin] < first
            turns.append((begin + len(added), max(begin, stop) + len(added)))
        return Layout((*added, *ids), tuple(turns), False, False, merged)
