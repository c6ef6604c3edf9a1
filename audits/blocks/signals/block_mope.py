"""Block-wise MoPe: noise on the weights of one block at a time.

Li et al., "MoPe: Model Perturbation-based Privacy Attacks on Language Models", EMNLP 2023 (arXiv
2310.14369), applied to single blocks. The published way writes noisy copies of the model to disk
and runs each from the start; here the inputs of all blocks are kept for a batch and only what lies
behind the disturbance runs again.

Weight noise does not tell where a record is stored: blocks that never saw a member rise too.
Departures from the paper, all of them options, are those of the attack ``mope``: both signs of
every draw, and a size relative to each tensor's own scale.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from audits.blocks.cached_pass import CachedPass
from audits.blocks.profile import Reading
from audits.blocks.signals.base import BlockAccess, RerunSignal
from audits.blocks.weights import weights_by_block
from audits.membership.signals.weight_noise import WeightNoise, noise_sizes, weight_noise
from audits.membership.signals.weight_shards import (
    gather_anew,
    given_back,
    held_part,
    no_copy_left,
)
from audits.membership.signals.weights import full_precision
from audits.scoring.batches import over_batches
from datamodules.batches import EncodedRecord, InstructionBatch
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM


class BlockMoPe(RerunSignal):
    """Mean over draws of [NLL(theta + s eps_b) + NLL(theta - s eps_b)] / 2 - NLL(theta).

    Unit: nats per token. eps_b is the noise that the attack ``mope`` of the same seed puts on block
    b, and nothing on other weights.

    Args:
        draws: Number of draws. Where they differ much, 95% intervals cover the truth in some 88%
            with 3, 92% with 5 and 94% with 10 (``benchmarks/draw_cells.py``).
        rho: Scale of the noise on a tensor W as a share of its root mean square, s = rho rms(W).
        sigma: The same scale s for all tensors, with ``rho: null``.
        antithetic: Whether every draw is used with both signs.

    Raises:
        UserError: If there are fewer than three draws, from which no interval over draws can be
            had, or not exactly one positive scale.
    """

    name = "block_mope"

    def __init__(
        self,
        draws: int = 5,
        rho: float | None = 0.1,
        sigma: float | None = None,
        antithetic: bool = True,
    ) -> None:
        self.noise = WeightNoise.of(self.name, draws, rho, sigma, antithetic)
        self.params = self.noise.params

    def measure(self, access: BlockAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns the rise of every draw in nats per token, [R, L, draws].

        Beside the weights that a rank holds, a copy of one block's is held, the block's noise, and
        every block's input for one batch.

        Raises:
            UserError: If the weights are in half precision.
            FloatingPointError: Naming the record whose loss is not a number.
        """
        lm = access.model.lm
        by_block = weights_by_block(lm, self.name, whole=False)

        def compute(lm: CausalLM, batch: InstructionBatch) -> Tensor:
            cached = CachedPass.of(lm, batch)
            still = cached.read(cached.stream)
            rises = [
                still[:, None] - self._disturbed(cached, block, weights, sizes, access.model.seed)
                for block, weights in enumerate(by_block)
            ]
            return torch.stack(rises, dim=1)

        with torch.no_grad(), full_precision(lm), no_copy_left(lm):
            every = {name: weight for weights in by_block for name, weight in weights.items()}
            sizes = noise_sizes(every, self.noise.scale, self.noise.relative)
            return over_batches(access.model, encoded, f"blocks: {self.name}", compute)

    def readings(self, measured: Tensor) -> list[Reading]:
        """Returns the profile of the mean rise; its intervals count the draws."""
        every = tuple(range(measured.shape[1]))
        means = measured.mean(dim=2).numpy()
        return [Reading(self.name, self.params, every, means, draws=measured.numpy())]

    def _disturbed(
        self,
        cached: CachedPass,
        block: int,
        weights: Mapping[str, nn.Parameter],
        sizes: Mapping[str, float],
        seed: int,
    ) -> Tensor:
        """Returns mean log-likelihoods under every draw on one block, over signs, [B, draws]."""
        module = transformer_blocks(cached.lm.model)[block]
        found = []
        with given_back(weights) as originals:
            for draw in range(self.noise.draws):
                noise = {
                    name: weight_noise(weight, seed, draw, name).mul_(sizes[name])
                    for name, weight in weights.items()
                }
                likelihoods = []
                for sign in self.noise.signs:
                    for name, weight in weights.items():
                        held_part(weight).copy_(originals[name] + sign * noise[name])
                    gather_anew(module)
                    likelihoods.append(cached.rerun(block))
                found.append(torch.stack(likelihoods).mean(dim=0))
        gather_anew(module)
        return torch.stack(found, dim=1)
