"""Sums over scored tokens, kept until the whole global batch is known."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class TokenSums:
    """Adds named sums of micro-batches and turns them into means over all ranks.

    Sums are kept in float64 on the device of the first one.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Adds the sums of one micro-batch.

        Args:
            sums: Scalars by name, among them ``tokens``, the number of scored tokens, and
                ``sequences``, the number of responses, where the others are sums over those; the
                same names in every micro-batch.
        """
        for name, value in sums.items():
            total = value.detach().double()
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def means(
        self, reduce_sum: Callable[[Tensor], Tensor]
    ) -> tuple[dict[str, float], float, float]:
        """Returns every sum divided by what it is over, tokens or sequences; then starts anew.

        Args:
            reduce_sum: Adds a tensor over the ranks.

        Returns:
            Means by name, without the counts; the number that was divided by; scored tokens of all
            ranks. Without any scored token the means are 0.
        """
        names = sorted(self._sums)
        totals = reduce_sum(torch.stack([self._sums[name] for name in names])).tolist()
        self._sums = {}
        by_name = dict(zip(names, totals, strict=True))
        tokens = by_name.pop("tokens")
        divisor = by_name.pop("sequences", tokens)
        means = {name: total / max(divisor, 1.0) for name, total in by_name.items()}
        return means, divisor, tokens
