"""How much of a response's second half the model writes by itself after the first half."""

import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audits.membership.signals.base import RecordSignal
from audits.scoring.continuing import continuation_rounds, continue_round
from audits.scoring.model_access import ModelAccess
from audits.scoring.rouge import WordTokenizer
from audits.scoring.token_statistics import SHARD_RECORDS, shard_places
from datamodules.batches import EncodedRecord
from kdmodules.models.anatomy import context_window
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import SamplingSettings

_CUT_CHARACTER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class ContinuationOverlap(RecordSignal):
    """Word recall of sampled continuations times their compressed bytes, one number per sample.

    The response's tokens, without its eos, are halved, the longer half second. The model continues
    prompt and first half by as many tokens as the second half has, or by fewer where it ends. A
    sample's number is rouge_1_recall(second half, sample) * len(zlib(utf-8 of the sample)).

    Attributes:
        samples: Continuations of each record, K.
        temperature: Divides the logits.
        top_k: Sampling keeps this many of the likeliest tokens; 0 keeps all.
    """

    samples: int
    temperature: float
    top_k: int

    @property
    def label(self) -> str:
        """For instance "10 continuations, T 1, top-k 50"."""
        return f"{self.samples} continuations, T {self.temperature:g}, top-k {self.top_k}"

    @property
    def passes(self) -> float:
        """One per sample: with a cache every token enters the model once, as in a scoring pass."""
        return float(self.samples)

    def measure(self, access: ModelAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns recall times bytes, [B, samples]; NaN where a half has no text.

        Raises:
            UserError: Naming the record for which the model's output is not a number.
        """
        rounds = continuation_rounds(
            _sizes(access, encoded),
            access.batch_size * access.ranks.world_size,
            context_window(access.lm.model) or sys.maxsize,
        )
        overlap = torch.full((len(encoded), self.samples), torch.nan, dtype=torch.float64)
        with access.progress(self.label, len(rounds) * self.samples) as advance:
            for places in rounds:
                starts, ends = zip(*(_halve(encoded[place]) for place in places), strict=True)
                references, lengths = _texts(access, ends), [len(end) for end in ends]
                for draw in range(self.samples):
                    texts = _texts(access, self._continue(access, starts, lengths, draw))
                    for place, reference, text in zip(places, references, texts, strict=True):
                        recall = rouge_1_recall(reference, text)
                        overlap[place, draw] = recall * len(zlib.compress(text.encode("utf-8")))
                    advance()
        return overlap

    def _continue(
        self,
        access: ModelAccess,
        starts: Sequence[EncodedRecord],
        lengths: Sequence[int],
        draw: int,
    ) -> list[tuple[int, ...]]:
        """Returns one continuation of each start, each cut to its own length."""
        settings = SamplingSettings(
            max_new_tokens=max(lengths), temperature=self.temperature, top_k=self.top_k
        )
        scope = RandomScope(access.seed, "samia", draw=draw)
        return continue_round(access, starts, lengths, settings, scope)


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


def _halve(record: EncodedRecord) -> tuple[EncodedRecord, tuple[int, ...]]:
    """Returns the prompt with the first half of the last scored turn, and the second half."""
    record = record.last_turn
    text = record.words
    middle = len(text) // 2
    start = replace(record, prompt_ids=record.prompt_ids + text[:middle], response_ids=())
    return start, text[middle:]


def _sizes(access: ModelAccess, encoded: Sequence[EncodedRecord]) -> dict[int, tuple[int, int]]:
    """Returns the tokens of start and end by place, of records both of whose halves have text."""
    sizes = {}
    for places in shard_places(len(encoded), SHARD_RECORDS):
        records = [encoded[place] for place in places.tolist()]
        starts, ends = zip(*map(_halve, records), strict=True)
        halves = zip(places.tolist(), records, starts, ends, _texts(access, ends), strict=True)
        for place, record, start, end, reference in halves:
            if len(start) > len(record.last_turn.prompt_ids) and reference.strip():
                sizes[place] = (len(start), len(end))
    return sizes


def _texts(access: ModelAccess, ids: Sequence[tuple[int, ...]]) -> list[str]:
    """Returns tokens as text; bytes of a character that a cut divides are nobody's text."""
    texts = access.encoder.tokenizer.batch_decode(
        [list(one) for one in ids], skip_special_tokens=True
    )
    return [text.replace(_CUT_CHARACTER, "") for text in texts]
