"""What becomes of hidden states at the end of a model: a product, a bias, a soft cap."""

from typing import NamedTuple

import torch
from torch import Tensor

# Rows of a head that are widened at a time where its weight is held in fewer bits.
WIDENED_ROWS = 8192


class Head(NamedTuple):
    """The map from hidden states to logits, ``cap tanh((h @ weight.T + bias) / cap)``.

    Attributes:
        weight: [V, D]; None where the hidden states are logits already, [..., V].
        bias: [V], or None.
        soft_cap: What logits approach and do not pass (Gemma 2, Riviere et al. 2024, arXiv
            2408.00118, section 2); None leaves them as they are.
    """

    weight: Tensor | None
    bias: Tensor | None = None
    soft_cap: float | None = None

    def size(self, hidden: Tensor) -> int:
        """Returns V, for hidden states of this model."""
        return hidden.shape[-1] if self.weight is None else self.weight.shape[0]

    def rows(self, n: int) -> "Head":
        """Returns the head of the first n tokens; itself where it has no more."""
        weight, bias = self.weight, self.bias
        if weight is None or n >= weight.shape[0]:
            return self
        return Head(weight[:n], None if bias is None else bias[:n], self.soft_cap)

    def detach(self) -> "Head":
        """Returns the same head without a gradient."""
        weight, bias = (part if part is None else part.detach() for part in self[:2])
        return Head(weight, bias, self.soft_cap)

    def wide_type(self, hidden: Tensor) -> torch.dtype:
        """Returns the type of logits: float32, or float64 where that is among what is given."""
        given = hidden.dtype if self.weight is None else self.weight.dtype
        return torch.promote_types(torch.promote_types(hidden.dtype, given), torch.float32)

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns the logits [..., V] of hidden states [..., D], in `wide_type`.

        A weight of fewer bits is widened some rows at a time.
        """
        weight, wide = self.weight, self.wide_type(hidden)
        hidden = hidden.to(wide)
        if weight is None:
            return hidden
        if weight.dtype == wide:
            logits = hidden @ weight.T
        else:
            parts = [hidden @ part.to(wide).T for part in weight.split(WIDENED_ROWS)]
            logits = torch.cat(parts, dim=-1)
        if self.bias is not None:
            logits = logits + self.bias.to(wide)
        if self.soft_cap is not None:
            logits = (logits / self.soft_cap).tanh() * self.soft_cap
        return logits

    def finish_(self, products: Tensor, tokens: slice | Tensor = slice(None)) -> Tensor:
        """Turns products of hidden states and some tokens' rows into logits, in place.

        Args:
            products: [..., n], without a gradient.
            tokens: Whose rows; [n] of them.
        """
        if self.bias is not None:
            products.add_(self.bias[tokens].to(products.dtype))
        if self.soft_cap is not None:
            products.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        return products


def as_head(head: Head | Tensor) -> Head:
    """Returns a head; a plain weight [V, D] is one without bias and cap."""
    return head if isinstance(head, Head) else Head(head)
