"""Logits of hidden states under a head, and the gradients of both, some rows at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from kdmodules.models.head import WIDENED_ROWS, Head

# Rows of a head that a CPU thread multiplies at a time: a product with the whole head leaves its
# caches, and takes 1.5 times as long (measured for widths of 256 and 512).
HEAD_ROWS_PER_THREAD = 512


class Gradients(NamedTuple):
    """Where the gradients of one model are collected; None where one is not wanted.

    Attributes:
        hidden: [N, D].
        weight: [V, D]; rows of padding stay 0.
        bias: [V].
    """

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


class HeadProduct:
    """Hidden states and head of one model, in the type that their product is computed in."""

    def __init__(self, hidden: Tensor, head: Head, n_valid: int, dtype: torch.dtype) -> None:
        # CUDA accumulates half-precision products in float32 and can hand them out so.
        low = hidden.is_cuda and hidden.dtype in (torch.bfloat16, torch.float16)
        self.dtype = dtype
        self.operand = hidden.dtype if low else dtype
        self.hidden = hidden.detach().to(self.operand)
        self.head = head.detach().rows(n_valid)
        if low and self.head.weight is not None:
            self.head = self.head._replace(weight=self.head.weight.to(self.operand))
        self.n_valid = n_valid

    def logits(self, rows: slice, out: Tensor) -> Tensor:
        """[n, V] logits of some rows, in `out` where that is possible."""
        hidden, weight = self.hidden[rows], self.head.weight
        if weight is None:
            out.copy_(hidden[:, : self.n_valid])
        elif self.operand != self.dtype:
            out = torch.mm(hidden, weight.t(), out_dtype=self.dtype)
        else:
            on_cpu = hidden.device.type == "cpu"
            step = HEAD_ROWS_PER_THREAD * torch.get_num_threads() if on_cpu else len(weight)
            for part, own in self._widened(weight, step):
                torch.mm(hidden, own.t(), out=out[:, part])
        return self.head.finish_(out)

    def pull_back(self, grad: Tensor, rows: slice, into: Gradients) -> None:
        """Writes rows of the hidden states' gradient and adds to the head's.

        Args:
            grad: [n, V] by the products, behind which bias and soft cap come.
            rows: Which tokens these are.
            into: Where the gradients go.
        """
        weight = self.head.weight
        if into.bias is not None:
            into.bias[: self.n_valid] += grad.sum(0)
        if into.hidden is not None:
            self._pull_back_hidden(grad, weight, into.hidden[rows])
        if into.weight is None:
            return
        to_weight = into.weight[: self.n_valid]
        if self.operand == self.dtype:
            to_weight.addmm_(grad.t(), self.hidden[rows])
        else:
            grad = grad.to(self.operand)
            to_weight += torch.mm(grad.t(), self.hidden[rows], out_dtype=self.dtype)

    def _pull_back_hidden(self, grad: Tensor, weight: Tensor | None, out: Tensor) -> None:
        if weight is None:
            out[:, : self.n_valid] = grad
        elif self.operand != self.dtype:
            out.copy_(torch.mm(grad.to(self.operand), weight, out_dtype=self.dtype))
        elif weight.dtype == self.operand:
            torch.mm(grad, weight, out=out)
        else:
            for part, own in self._widened(weight, len(weight)):
                out.addmm_(grad[:, part], own)

    def _widened(self, weight: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
        """Yields the weight in the product's type, at most so many rows at a time.

        One of fewer bits is never widened as a whole.
        """
        if weight.dtype != self.operand:
            step = min(step, WIDENED_ROWS)
        for start in range(0, len(weight), step):
            part = slice(start, start + step)
            yield part, weight[part].to(self.operand)
