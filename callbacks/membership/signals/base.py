"""The plug point of record signals: numbers per record that no token statistics hold."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from callbacks.membership.measurements import Measurement
from callbacks.ranks import Ranks
from datamodules.batches import EncodedRecord, RecordEncoder
from datamodules.records import InstructionRecord
from kdmodules.causal_lm import CausalLM
from kdmodules.generation_batches import Vocabulary

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class ModelAccess:
    """The model under audit and how to work on it.

    Attributes:
        lm: The model, in evaluation mode, behind its one entry.
        encoder: Its text to tokens.
        ranks: This process among all; what is measured must be whole on every rank.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
        seed: Seed of everything random.
        progress: Opens a named bar of so many steps.
    """

    lm: CausalLM
    encoder: RecordEncoder
    ranks: Ranks
    batch_size: int
    max_batch_tokens: int
    seed: int
    progress: Progress

    @property
    def vocabulary(self) -> Vocabulary:
        """Valid tokens, end and padding."""
        return Vocabulary(self.lm.vocabulary_size, self.encoder.eos_id, self.encoder.pad_id)


@dataclass(frozen=True)
class RecordSignal(Measurement):
    """Numbers per record that take more of the model than log-probabilities of given text."""

    @abstractmethod
    def measure(
        self,
        access: ModelAccess,
        records: Sequence[InstructionRecord],
        encoded: Sequence[EncodedRecord],
    ) -> Tensor:
        """Measures the audited model on every record.

        Args:
            access: The model. Its weights and modes must be what they were, to the bit, afterwards.
            records: B records with a response.
            encoded: Their tokens, in the same order.

        Returns:
            [B, K] float64 on the CPU, the same on every rank; NaN where it is undefined for a
            record, never elsewhere.

        Raises:
            FloatingPointError: Naming the record for which the model's output is not a number.
        """
