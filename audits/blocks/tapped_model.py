"""A model as a function of its embeddings, with every block's update passing a module of its own.

A block maps x to x + u(x), its update u the sum of what attention and MLP add (behind the norms,
where a family norms last). The last stream is the embeddings' stream plus the updates of all
blocks. The two modules that are laid in here let attribution methods see both: what becomes of an
update anywhere behind its block, and what it adds to the last stream directly.
"""

import torch
from torch import Tensor, nn

from audits.blocks.recorder import BlockCall, watching
from datamodules.batches import InstructionBatch
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM


class TappedModel(nn.Module):
    """Mean log-likelihood of one record's response as a function of its token embeddings.

    Attributes:
        updates: One identity per block, whose output is the block's update, [S, T, D].
        summands: An identity whose output is all that is summed to the last stream,
            [S, L + 1, T, D]: the stream that enters block 0, then the updates.

    Args:
        lm: The model, in evaluation mode.
        batch: One record.
    """

    def __init__(self, lm: CausalLM, batch: InstructionBatch) -> None:
        super().__init__()
        self._lm = [lm]  # in a list, so that the model is no part of this module
        self._batch = batch
        n_blocks = len(transformer_blocks(lm.model))
        self.updates = nn.ModuleList(nn.Identity() for _ in range(n_blocks))
        self.summands = nn.Identity()

    @property
    def embeddings(self) -> Tensor:
        """The record's token embeddings, [1, T, E]."""
        (lm,) = self._lm
        return lm.model.get_input_embeddings()(self._batch.input_ids).detach()

    @property
    def mean_embedding(self) -> Tensor:
        """The mean token embedding at every position, [1, T, E]."""
        (lm,) = self._lm
        every = torch.arange(lm.vocabulary_size, device=self._batch.input_ids.device)
        mean = lm.model.get_input_embeddings()(every).detach().mean(dim=0)
        return mean.expand_as(self.embeddings).clone()

    def forward(self, embeddings: Tensor) -> Tensor:
        """Returns the mean log-likelihood for each of S sets of embeddings [S, T, E], [S] nats."""
        (lm,) = self._lm
        parts: list[Tensor] = []

        def hook(block: int, call: BlockCall, output: Tensor) -> Tensor:
            update = self.updates[block](output - call.hidden)
            parts.extend([update] if parts else [call.hidden, update])
            if block + 1 < len(self.updates):
                return call.hidden + update
            return self.summands(torch.stack(parts, dim=1)).sum(dim=1)

        with watching(lm.model, hook):
            states = lm.run({"inputs_embeds": embeddings})
        targets = self._batch.targets()
        rows = states[:, :-1][self._batch.response_mask[:, 1:].expand(len(states), -1)]
        logits = lm.head.logits(rows)
        logp = logits.log_softmax(dim=-1).view(len(states), len(targets), -1)
        return logp.gather(2, targets.expand(len(states), -1)[..., None]).mean(dim=(1, 2))
