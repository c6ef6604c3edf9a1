"""A sampled response with what the policy gradient needs of it, and batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datamodules.batches import FILLER_ID, EncodedRecord, InstructionBatch, collate
from kdmodules.losses.returns import whiten

EXTRAS = ("old_logp", "mixture_weight", "advantages")
"""What a batch of rollouts holds of every scored token, by the names of `Rollout`."""


@dataclass(frozen=True)
class Rollout:
    """A sampled response with what the policy gradient needs of it.

    Attributes:
        record: The prompt's record with the sampled response.
        old_logp: float32 [n] log q of each token when it was sampled, nats.
        mixture_weight: float32 [n] w = q / ((1 - a) q + a p) of each token.
        advantages: float32 [n] returns, whitened where that is done once per round.
    """

    record: EncodedRecord
    old_logp: Tensor
    mixture_weight: Tensor
    advantages: Tensor

    def whitened_by(self, sums: Tensor) -> "Rollout":
        """Returns the rollout with its returns whitened by moments of more than its own."""
        every = torch.ones_like(self.advantages, dtype=torch.bool)
        return replace(self, advantages=whiten(self.advantages, every, sums))

    def filler(self) -> "Rollout":
        """Returns a row with the rollout's prompt and nothing to score."""
        record = EncodedRecord(FILLER_ID, self.record.task, self.record.prompt_ids, ())
        nothing = torch.zeros(0, dtype=torch.float32)
        return Rollout(record, nothing, nothing, nothing)


def rollout_batch(rollouts: Sequence[Rollout], pad_id: int) -> InstructionBatch:
    """Returns rollouts as a batch whose extras lie on the tokens that they belong to, [B, T]."""
    batch = collate([rollout.record for rollout in rollouts], pad_id)
    for name in EXTRAS:
        extra = torch.zeros(batch.input_ids.shape, dtype=torch.float32)
        extra[batch.response_mask] = torch.cat([getattr(rollout, name) for rollout in rollouts])
        batch.extras[name] = extra
    return batch
