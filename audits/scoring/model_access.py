"""The model under audit, and how an audit works on it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from common.ranks import Ranks
from datamodules.batches import RecordEncoder
from kdmodules.models.causal_lm import CausalLM
from kdmodules.sampling.generation_batches import Vocabulary

Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class ModelAccess:
    """The model under audit, or one beside it, and how to work on it.

    Attributes:
        lm: The model, in evaluation mode, behind its one entry.
        encoder: Its text to tokens.
        ranks: This process among all; what is measured must be whole on every rank.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
        seed: Seed of everything random.
        progress: Opens a named bar of so many steps.
        audited: The model under audit, where this one is a reference beside it.
    """

    lm: CausalLM
    encoder: RecordEncoder
    ranks: Ranks
    batch_size: int
    max_batch_tokens: int
    seed: int
    progress: Progress
    audited: "ModelAccess | None" = None

    @property
    def vocabulary(self) -> Vocabulary:
        """Valid tokens, ends and padding."""
        return Vocabulary.of(self.lm.vocabulary_size, self.encoder, self.lm.model)
