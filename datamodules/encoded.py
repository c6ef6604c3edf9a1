"""A record's token ids, and which of them are scored."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class EncodedRecord:
    """Token ids of a record.

    Attributes:
        record_id: id of the record.
        task: task of the record.
        prompt_ids: what stands before the first scored token, the beginning token first where the
            tokenizer has one.
        response_ids: the first to the last scored token: the response and its end token; without
            that where the response was cut; empty where the record has no response.
        prompt_cut: the prompt lost some of its content.
        response_cut: the response lost its end, or only its end token.
        boundary_merged: a token holds characters of the prompt and of the response.
        scored: which of `response_ids` are scored, where several turns are; None: all of them.
        special_tokens: how often the record's own words spell a special token.
        unended: the template puts no end token where the response ends.
    """

    record_id: str
    task: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    prompt_cut: bool = False
    response_cut: bool = False
    boundary_merged: bool = False
    scored: tuple[bool, ...] | None = None
    special_tokens: int = 0
    unended: bool = False

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)

    @property
    def n_scored(self) -> int:
        """Scored tokens."""
        return len(self.response_ids) if self.scored is None else sum(self.scored)

    @property
    def words(self) -> tuple[int, ...]:
        """The response without its end token."""
        bare = self.response_cut or self.unended
        return self.response_ids if bare else self.response_ids[:-1]

    @property
    def last_turn(self) -> "EncodedRecord":
        """The record with its last scored turn as response, and all before it as prompt."""
        if self.scored is None:
            return self
        first = len(self.scored) - self.scored[::-1].index(False)
        prompt = self.prompt_ids + self.response_ids[:first]
        return replace(self, prompt_ids=prompt, response_ids=self.response_ids[first:], scored=None)
