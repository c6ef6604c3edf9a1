"""One forward pass with the input of every block kept, so that a change in a block costs the rest.

What comes before a block does not depend on it. A change in block b of L therefore needs blocks b
to L - 1 and the head only, half of the trunk on average.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from audits.blocks.readout import mean_log_likelihood, predicting_rows
from audits.blocks.recorder import BlockCall, watching
from datamodules.batches import InstructionBatch
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM

_UNCHANGED: Mapping[int, nn.Module] = {}


@dataclass(frozen=True)
class CachedPass:
    """A batch's way through a model; lives as long as the batch.

    Attributes:
        lm: The model.
        batch: B records.
        calls: How each block was called, with its input.
        stream: Output of the last block, [B, T, D].
    """

    lm: CausalLM
    batch: InstructionBatch
    calls: tuple[BlockCall, ...]
    stream: Tensor

    @staticmethod
    def of(lm: CausalLM, batch: InstructionBatch) -> "CachedPass":
        """Runs a batch once. Call it inside the model's root forward."""
        calls: list[BlockCall] = []
        last: list[Tensor] = []

        def keep(index: int, call: BlockCall, output: Tensor) -> None:
            calls.append(call)
            last[:] = [output]

        with watching(lm.model, keep):
            lm.states(batch.input_ids, batch.attention_mask)
        return CachedPass(lm, batch, tuple(calls), last[0])

    def rerun(
        self,
        first: int,
        hidden: Tensor | None = None,
        replaced: Mapping[int, nn.Module] = _UNCHANGED,
    ) -> Tensor:
        """Runs the blocks from one on and returns every record's mean log-likelihood, [B] float64.

        Args:
            first: Index of the first block that runs; the number of blocks runs none.
            hidden: What enters it, [B, T, D]; by default what did.
            replaced: Blocks that take the place of the model's own, by index.
        """
        stream = self.calls[first].hidden if hidden is None else hidden
        blocks = transformer_blocks(self.lm.model)
        for index in range(first, len(blocks)):
            stream = self.calls[index].run(replaced.get(index, blocks[index]), stream)
        return self.read(stream)

    def read(self, stream: Tensor) -> Tensor:
        """Returns every record's mean log-likelihood for a last residual stream [B, T, D]."""
        rows = predicting_rows(stream, self.batch)
        return mean_log_likelihood(self.lm, rows, self.batch)
