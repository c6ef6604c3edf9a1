"""The product of hidden states and a head, and its two gradients, some rows at a time."""

import torch
from torch import Tensor

# Rows of a head that a CPU thread multiplies at a time: a product with the whole head leaves its
# caches, and takes 1.5 times as long (measured for widths of 256 and 512).
HEAD_ROWS_PER_THREAD = 512


class HeadProduct:
    """Hidden states and head weight of one model, in the type that their product is computed in."""

    def __init__(self, hidden: Tensor, weight: Tensor, n_valid: int, dtype: torch.dtype) -> None:
        # CUDA accumulates half-precision products in float32 and can hand them out so.
        low = hidden.is_cuda and hidden.dtype in (torch.bfloat16, torch.float16)
        self.dtype = dtype
        self.operand = hidden.dtype if low else dtype
        self.hidden = hidden.detach().to(self.operand)
        self.weight = weight.detach()[:n_valid].to(self.operand)

    def logits(self, rows: slice, out: Tensor) -> Tensor:
        """[n, V] logits of some rows, in `out` where that is possible."""
        hidden = self.hidden[rows]
        if self.operand != self.dtype:
            return torch.mm(hidden, self.weight.t(), out_dtype=self.dtype)
        on_cpu = hidden.device.type == "cpu"
        step = HEAD_ROWS_PER_THREAD * torch.get_num_threads() if on_cpu else len(self.weight)
        for start in range(0, len(self.weight), step):
            part = slice(start, start + step)
            torch.mm(hidden, self.weight[part].t(), out=out[:, part])
        return out

    def pull_back(
        self, grad: Tensor, rows: slice, to_hidden: Tensor | None, to_weight: Tensor | None
    ) -> None:
        """Writes rows of the hidden states' gradient and adds to the head's."""
        if self.operand == self.dtype:
            if to_hidden is not None:
                torch.mm(grad, self.weight, out=to_hidden[rows])
            if to_weight is not None:
                to_weight.addmm_(grad.t(), self.hidden[rows])
            return
        grad = grad.to(self.operand)
        if to_hidden is not None:
            to_hidden[rows] = torch.mm(grad, self.weight, out_dtype=self.dtype)
        if to_weight is not None:
            to_weight += torch.mm(grad.t(), self.hidden[rows], out_dtype=self.dtype)
