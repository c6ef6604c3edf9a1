"""A teacher of which only the likeliest tokens of each position are known."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor


@dataclass(frozen=True)
class TopKRows:
    """The k largest log-probabilities of each row, and what is left for all other tokens together.

    What is left is spread evenly over the other tokens, the choice that adds nothing to what is
    known (greatest entropy). The teacher p~ so made agrees with the true p on the k tokens and is
    at most the remaining mass r away in total variation. Spreading, not one cell for the rest,
    keeps it a distribution over tokens, which every objective takes as it is.

    Attributes:
        logp: [N, k] log-probabilities, float32.
        ids: [N, k] int64 tokens, distinct in each row.
        tail: [N] log of the remaining mass.
        vocabulary_size: V, above k.

    Raises:
        ValueError: Shapes disagree.
    """

    logp: Tensor
    ids: Tensor
    tail: Tensor
    vocabulary_size: int

    def __post_init__(self) -> None:
        n_rows, k = self.logp.shape
        if self.ids.shape != (n_rows, k) or self.tail.shape != (n_rows,):
            shapes = f"{tuple(self.logp.shape)}, {tuple(self.ids.shape)}, {tuple(self.tail.shape)}"
            raise ValueError(f"logp, ids and tail have shapes {shapes}, not [N, k], [N, k], [N]")
        if not 0 < k < self.vocabulary_size:
            raise ValueError(f"{k} of {self.vocabulary_size} tokens are kept")

    @classmethod
    def of(cls, logits: Tensor, k: int) -> "TopKRows":
        """Keeps the k likeliest tokens of [N, V] logits."""
        logp = torch.log_softmax(logits.float(), -1)
        kept, ids = logp.topk(k, dim=-1)
        rest = logp.scatter(-1, ids, -torch.inf)
        return cls(kept, ids, rest.logsumexp(-1), logits.shape[-1])

    def __len__(self) -> int:
        return len(self.logp)

    def logits(self, rows: slice, out: Tensor) -> Tensor:
        """Log-probabilities of p~ at some rows, [n, V], in `out`."""
        n_others = self.vocabulary_size - self.logp.shape[1]
        out.copy_((self.tail[rows] - log(n_others)).unsqueeze(1).expand_as(out))
        return out.scatter_(1, self.ids[rows], self.logp[rows].to(out.dtype))
