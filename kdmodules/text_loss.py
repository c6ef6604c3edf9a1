"""The language-modelling loss on plain text that some techniques add to a step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from datamodules.batches import InstructionBatch
from datamodules.plain_text import DocumentEnd
from kdmodules.causal_lm import CausalLM
from kdmodules.language_model import naming_records, supervised_sums


@dataclass(frozen=True)
class PlainText:
    """A corpus of plain text; see `datamodules.plain_text.read_plain_text`.

    Attributes:
        sources: UTF-8 text files, or a hub name.
        block_tokens: Tokens of a block.
        max_blocks: Stop reading once there are so many.
        documents: What ends a document in a text file.
        hub_split: Split of a hub data set.
        text_field: Text column of a hub data set.
    """

    sources: str | list[str]
    block_tokens: int = 512
    max_blocks: int | None = None
    documents: DocumentEnd = "blank_line"
    hub_split: str = "train"
    text_field: str = "text"


@dataclass(frozen=True)
class TextStep:
    """The text of an optimiser step on this rank.

    The text's gradient must be divided by its own number of targets, which is constant, while the
    gradients of the step are divided by its scored tokens, whose number over all micro-batches is
    known at the last one only. So all text of a step is read then, with ``weight`` that turns the
    one division into the other, and each part is recomputed in the backward pass so that one part's
    activations are held at a time.

    Attributes:
        parts: Blocks [b, block_tokens] each; none before the last micro-batch.
        weight: Scored tokens of the global batch over text targets of the global batch.
    """

    parts: Sequence[Tensor]
    weight: float

    def loss(self, lm: CausalLM) -> Tensor:
        """Returns the weighted sum of cross-entropies in nats, a scalar; 0 without parts."""
        total = lm.head_weight.new_zeros((), dtype=torch.float32)
        for part in self.parts:
            batch = text_batch(part)
            with naming_records(batch):
                if len(self.parts) == 1:
                    total = total + _cross_entropy(lm, batch)
                else:
                    total = total + checkpoint(_cross_entropy, lm, batch, use_reentrant=False)
        return total * self.weight


NO_TEXT = TextStep((), 0.0)


def _cross_entropy(lm: CausalLM, batch: InstructionBatch) -> Tensor:
    return supervised_sums(lm, batch)["loss"]


def text_batch(blocks: Tensor) -> InstructionBatch:
    """Returns blocks of text, [b, n], as a batch that scores all tokens but each block's first."""
    scored = torch.ones_like(blocks, dtype=torch.bool)
    scored[:, 0] = False
    names = [f"text block {index}" for index in range(len(blocks))]
    tasks = ["" for _ in names]
    return InstructionBatch(blocks, torch.ones_like(blocks), scored, names, tasks)
