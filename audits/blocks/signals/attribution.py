"""How much of a response's likelihood is owed to a block's update.

By Captum (Kokhlikyan et al. 2020, arXiv 2009.07896). A block's output is a full cut of the
network: conductance through it is F(x) - F(baseline) at every block, and gradient x activation at
the last one is 0 behind a final norm that ignores scale. What is attributed here is therefore the
block's *update*, its output minus its input.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from audits.blocks.cached_pass import CachedPass
from audits.blocks.profile import Params, Reading
from audits.blocks.recorder import BlockCall, watching
from audits.blocks.signals.base import BlockAccess, RerunSignal, undirected_readings
from audits.membership.signals.weights import differentiable, full_precision, named_weights
from audits.scoring.batches import over_batches
from common.options import require_at_least
from datamodules.batches import EncodedRecord, InstructionBatch
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM


class Attribution(RerunSignal):
    """What a block's update adds to the mean log-probability of the response, three ways.

    Unit: nats per token.

    - ``gradient_x_update``: dLL/du_b . u_b, wherever behind the block the update acts: to first
      order what is lost when the update is dropped.
    - ``ablation``: LL - LL without the update, exactly.
    - ``conductance`` (Dhamdhere et al. 2018, arXiv 1805.12233, equation 2): of what the update adds
      directly to the last stream, along the straight line from the mean token embedding. The
      embeddings' own stream and all blocks sum to LL - LL(baseline).

    None has a sign that was said to be a member's beforehand: they are tested from two sides.

    Args:
        conductance_steps: Steps along the line; 0 leaves conductance out, which costs two
            forward and two backward passes a step.

    Raises:
        UserError: If the steps are negative.
    """

    name = "attribution"

    def __init__(self, conductance_steps: int = 0) -> None:
        require_at_least(0, f"{self.name}: ", conductance_steps=conductance_steps)
        self.conductance_steps = conductance_steps
        self.params = {"conductance_steps": self.conductance_steps}

    def measure(self, access: BlockAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns the attributions, [R, L, 2], or [R, L, 3] with conductance.

        Raises:
            UserError: If the weights are sharded or in half precision.
            FloatingPointError: Naming the record whose distribution is not a number.
        """
        lm = access.model.lm
        named_weights(lm, self.name)
        label = f"blocks: {self.name}"
        with torch.no_grad(), full_precision(lm):
            dropped = over_batches(access.model, encoded, f"{label}, ablation", ablation)
        one_by_one = replace(access.model, batch_size=1)
        with differentiable(lm):
            traced = over_batches(one_by_one, encoded, label, self._trace)
        return torch.cat([traced[..., :1], dropped[..., None], traced[..., 1:]], dim=2)

    def _trace(self, lm: CausalLM, batch: InstructionBatch) -> Tensor:
        from captum.attr import LayerGradientXActivation

        tapped = TappedModel(lm, batch)
        embeddings = tapped.embeddings
        found = LayerGradientXActivation(tapped, list(tapped.updates)).attribute(embeddings)
        columns = [torch.stack([one.detach().double().sum() for one in found])]
        if self.conductance_steps:
            columns.append(conductance(tapped, self.conductance_steps)[1:])
        return torch.stack(columns, dim=1)[None]

    def readings(self, measured: Tensor) -> list[Reading]:
        """Returns the profile of each way."""
        params: list[Params] = [{"measure": "gradient_x_update"}, {"measure": "ablation"}]
        if self.conductance_steps:
            params.append({"measure": "conductance", **self.params})
        return undirected_readings(self.name, measured, params)


def ablation(lm: CausalLM, batch: InstructionBatch) -> Tensor:
    """Returns by how much the mean log-likelihood falls without each block's update, [B, L]."""
    cached = CachedPass.of(lm, batch)
    whole = cached.read(cached.stream)
    return torch.stack(
        [
            whole - cached.rerun(block + 1, hidden=call.hidden)
            for block, call in enumerate(cached.calls)
        ],
        dim=1,
    )


def conductance(tapped: "TappedModel", steps: int) -> Tensor:
    """Returns the conductance of the summands of the last stream, [L + 1] float64, nats per token.

    The first is the embeddings' own stream; all of them sum to the log-likelihood less that of the
    mean token embedding, up to the error of the steps. Captum takes the gradient at the beginning
    of a step; the line is walked both ways, so that the first order of that error cancels.

    Args:
        tapped: One record's model.
        steps: Steps along the straight line.
    """
    from captum.attr import LayerConductance

    ends = (tapped.embeddings, tapped.mean_embedding)
    method = LayerConductance(tapped, tapped.summands)
    there, back = (
        method.attribute(first, baselines=last, n_steps=steps, method="riemann_trapezoid")
        for first, last in (ends, ends[::-1])
    )
    return (there - back).detach().double().sum(dim=(0, 2, 3)) / 2


class TappedModel(nn.Module):
    """Mean log-likelihood of one record's response as a function of its token embeddings.

    A block maps x to x + u(x), its update u the sum of what attention and MLP add (behind the
    norms, where a family norms last). The last stream is the embeddings' stream plus the updates of
    all blocks. The two modules that are laid in here let attribution methods see both: what becomes
    of an update anywhere behind its block, and what it adds to the last stream directly.

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
