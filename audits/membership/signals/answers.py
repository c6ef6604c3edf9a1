"""What a model answers to a record's instruction, compared with the record's response."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audits.membership.measurements import AUDITED
from audits.membership.signals.continuations import WrittenText
from audits.scoring.edit_similarity import edit_similarity
from audits.scoring.rouge import WordTokenizer, rouge_l_f1
from datamodules.batches import EncodedRecord
from kdmodules.sampling.sampler import SamplingSettings


@dataclass(frozen=True)
class AnswerSimilarity(WrittenText):
    """Similarity of a greedy answer and of sampled ones to the response, one number per answer.

    Of the record the model is given the prompt alone. An answer's number is the mean of ROUGE-L F1
    and of the edit similarity of words.

    Attributes:
        model: Whose answers: ``audited``, or the name of a reference model.
    """

    purpose = "label_only"
    model: str = AUDITED

    @property
    def label(self) -> str:
        """For instance "base: greedy answer and 4 sampled, T 1"."""
        return f"{self.model}: greedy answer and {self.samples} sampled, T {self.temperature:g}"

    def settings(self, length: int) -> list[SamplingSettings]:
        """Returns the greedy answer's, then the samples'."""
        greedy = SamplingSettings(decoding="greedy", max_new_tokens=length)
        return [greedy, *super().settings(length)]

    def parted(self, record: EncodedRecord) -> tuple[EncodedRecord, tuple[int, ...]]:
        """Returns the last scored turn's prompt and its response; no prompt asks for nothing."""
        record = record.last_turn
        return replace(record, response_ids=()), record.words if record.prompt_ids else ()

    def value(self, true: str, written: str) -> float:
        """Returns the mean of both similarities, in [0, 1]."""
        tokenizer = WordTokenizer()
        words: Sequence[str] = tokenizer.tokenize(true)
        own: Sequence[str] = tokenizer.tokenize(written)
        if not words:
            words, own = "".join(true.split()), "".join(written.split())
        return (float(rouge_l_f1([true], [written])[0]) + edit_similarity(words, own)) / 2
