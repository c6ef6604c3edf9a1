"""What a model writes by itself, compared with what a record says in its place."""

import sys
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from audits.membership.signals.base import RecordSignal
from audits.scoring.model_access import ModelAccess
from audits.scoring.rouge import WordTokenizer
from audits.scoring.token_statistics import SHARD_RECORDS, shard_places
from datamodules.batches import EncodedRecord
from kdmodules.models.anatomy import context_window
from kdmodules.models.causal_lm import CausalLM
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import GeneratedResponse, SamplingSettings, generate_responses

_CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class WrittenText(RecordSignal):
    """How alike what a model writes is to what a record says there, one number per text.

    The model continues the record's beginning by as many tokens as the rest has, or by fewer where
    it ends.

    Attributes:
        samples: Texts of each record that are sampled.
        temperature: Divides the logits.
        top_k: Sampling keeps this many of the likeliest tokens; 0 keeps all.
    """

    purpose: ClassVar[str]
    samples: int
    temperature: float
    top_k: int

    @property
    def passes(self) -> float:
        """One per text: with a cache every token enters the model once, as in a scoring pass."""
        return float(len(self.settings(1)))

    @abstractmethod
    def parted(self, record: EncodedRecord) -> tuple[EncodedRecord, tuple[int, ...]]:
        """Returns what is continued and the rest, which is empty where nothing can be compared."""

    @abstractmethod
    def value(self, true: str, written: str) -> float:
        """Returns how alike a text is to the true one, which is not blank."""

    def settings(self, length: int) -> list[SamplingSettings]:
        """Returns how each text of at most so many tokens is decoded."""
        sampled = SamplingSettings(
            max_new_tokens=length, temperature=self.temperature, top_k=self.top_k
        )
        return [sampled] * self.samples

    def measure(self, access: ModelAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns a number for each text, [B, K]; NaN where there is nothing to compare.

        Raises:
            UserError: Naming the record for which the model's output is not a number.
        """
        rounds = continuation_rounds(
            self._sizes(access, encoded),
            access.batch_size * access.ranks.world_size,
            context_window(access.lm.model) or sys.maxsize,
        )
        n_texts = len(self.settings(1))
        found = torch.full((len(encoded), n_texts), torch.nan, dtype=torch.float64)
        with access.progress(self.label, len(rounds) * n_texts) as advance:
            for places in rounds:
                starts, ends = zip(*(self.parted(encoded[place]) for place in places), strict=True)
                truth, lengths = _texts(access, ends), [len(end) for end in ends]
                for draw, settings in enumerate(self.settings(max(lengths))):
                    scope = RandomScope(access.seed, self.purpose, draw=draw)
                    written = continue_round(access, starts, lengths, settings, scope)
                    texts = _texts(access, written)
                    for place, true, text in zip(places, truth, texts, strict=True):
                        found[place, draw] = self.value(true, text)
                    advance()
        return found

    def _sizes(
        self, access: ModelAccess, encoded: Sequence[EncodedRecord]
    ) -> dict[int, tuple[int, int]]:
        """Returns the tokens of beginning and rest by place, where the rest has text."""
        sizes = {}
        for places in shard_places(len(encoded), SHARD_RECORDS):
            parts = [self.parted(encoded[place]) for place in places.tolist()]
            texts = _texts(access, [end for _, end in parts])
            for place, (start, end), text in zip(places.tolist(), parts, texts, strict=True):
                if text.strip():
                    sizes[place] = (len(start), len(end))
        return sizes


@dataclass(frozen=True)
class ContinuationOverlap(WrittenText):
    """Word recall of sampled continuations times their compressed bytes, one number per sample.

    The response's tokens, without its eos, are halved, the longer half second. The model continues
    prompt and first half by as many tokens as the second half has, or by fewer where it ends. A
    sample's number is rouge_1_recall(second half, sample) * len(zlib(utf-8 of the sample)).
    """

    purpose = "samia"

    @property
    def label(self) -> str:
        """For instance "10 continuations, T 1, top-k 50"."""
        return f"{self.samples} continuations, T {self.temperature:g}, top-k {self.top_k}"

    def parted(self, record: EncodedRecord) -> tuple[EncodedRecord, tuple[int, ...]]:
        """Returns the prompt with the first half of the last scored turn, and the second half."""
        record = record.last_turn
        text = record.words
        middle = len(text) // 2
        start = replace(record, prompt_ids=record.prompt_ids + text[:middle], response_ids=())
        return start, text[middle:] if middle else ()

    def value(self, true: str, written: str) -> float:
        """Returns word recall times compressed bytes."""
        return rouge_1_recall(true, written) * len(zlib.compress(written.encode("utf-8")))


def rouge_1_recall(reference: str, candidate: str) -> float:
    """Returns the share of the reference's words that are in the candidate, counted as often.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 2, with n = 1. Words
    are those of this project's ROUGE-L; a reference of punctuation alone is compared by characters.

    Args:
        reference: Text that is not blank.
        candidate: Any text.

    >>> rouge_1_recall("the cat and the dog", "The cat!")
    0.4
    """
    words = WordTokenizer()
    wanted, offered = words.tokenize(reference), words.tokenize(candidate)
    if not wanted:
        wanted, offered = list("".join(reference.split())), list("".join(candidate.split()))
    return (Counter(wanted) & Counter(offered)).total() / len(wanted)


def _texts(access: ModelAccess, ids: Sequence[tuple[int, ...]]) -> list[str]:
    """Returns tokens as text; bytes of a character that a cut divides are nobody's text."""
    texts = access.encoder.tokenizer.batch_decode(
        [list(one) for one in ids], skip_special_tokens=True
    )
    return [text.replace(_CUT_CHARACTER, "") for text in texts]


def continuation_rounds(
    sizes: Mapping[int, tuple[int, int]], size: int, window: int
) -> list[list[int]]:
    """Groups records of similar continuations, which all grow by the longest one of their group.

    What a record is continued with does not depend on its group: draws are keyed by position.

    Args:
        sizes: (tokens that are given, tokens of the continuation) by place.
        size: Most records in a group.
        window: Most tokens that the model accepts.

    >>> continuation_rounds({0: (5, 2), 1: (5, 9), 2: (5, 8)}, size=2, window=20)
    [[1, 2], [0]]
    """
    rounds: list[list[int]] = []
    for place in sorted(sizes, key=lambda one: -sizes[one][1]):
        group = rounds[-1] if rounds else []
        if 0 < len(group) < size and sizes[place][0] + sizes[group[0]][1] <= window:
            group.append(place)
        else:
            rounds.append([place])
    return rounds


def continue_round(
    access: ModelAccess,
    starts: Sequence[EncodedRecord],
    lengths: Sequence[int],
    settings: SamplingSettings,
    scope: RandomScope,
) -> list[tuple[int, ...]]:
    """Continues the prompts of one group, dealt over all ranks.

    Args:
        access: The model.
        starts: What is continued; only prompts are read.
        lengths: Most tokens of each continuation, at most ``settings.max_new_tokens``.
        settings: How to decode.
        scope: What random numbers depend on besides the record id.

    Returns:
        The token ids of each continuation, up to and including eos where it is produced, cut to
        its own length; whole on every rank.
    """
    mine = access.ranks.share(starts)

    def compute(lm: CausalLM) -> tuple[GeneratedResponse, ...]:
        responses = generate_responses(
            lm.model,
            mine,
            settings,
            access.vocabulary,
            scope,
            access.batch_size,
            access.max_batch_tokens,
            synced_gpus=access.ranks.world_size > 1,
        )
        return tuple(responses)

    found = access.ranks.gather(list(access.lm(compute)))[: len(starts)]
    return [response.token_ids[:length] for response, length in zip(found, lengths, strict=True)]
