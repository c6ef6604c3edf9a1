"""A spy on the shapes of all tensors: it finds whoever writes logits of many tokens at once."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class VocabularySheets(TorchDispatchMode):
    """Remembers the tallest float tensor with one number per row and vocabulary entry.

    Args:
        vocabulary: Number of tokens; no other size of the model may equal it.

    Attributes:
        rows: Rows of that tensor, whatever dimensions they are spread over.
        made_by: The operator that made it.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.rows = 0
        self.made_by = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for found in tree_leaves(result):
            if isinstance(found, Tensor) and found.is_floating_point():
                self._look_at(found, str(func))
        return result

    def _look_at(self, found: Tensor, name: str) -> None:
        if self.vocabulary not in found.shape:
            return
        # A view that repeats its rows has no more memory than what it looks at.
        held = min(found.numel(), found.untyped_storage().nbytes() // found.element_size())
        if held // self.vocabulary > self.rows:
            self.rows, self.made_by = held // self.vocabulary, name


def flattened(batch: int, tokens: int, vocabulary: int) -> Tensor:
    """What the spy must find: the logits of a whole batch."""
    return torch.zeros(batch, tokens, 4) @ torch.zeros(4, vocabulary)
