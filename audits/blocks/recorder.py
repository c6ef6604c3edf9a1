"""Watches every transformer block of a model while it runs; its hooks never stay behind."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from common.errors import UserError
from kdmodules.models.anatomy import transformer_blocks


@dataclass(frozen=True)
class BlockCall:
    """How a model called one of its blocks.

    Attributes:
        hidden: What entered the block, [B, T, D].
        args: The other positional arguments: masks, caches.
        kwargs: The named arguments.
    """

    hidden: Tensor
    args: tuple[object, ...]
    kwargs: Mapping[str, object]

    def run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """Calls a block in the same way with another input [B, T, D]; returns its output."""
        return stream_of(block(hidden, *self.args, **self.kwargs))


def stream_of(output: Any) -> Tensor:
    """Returns the hidden states among what a block returns: all of it, or the first of a tuple."""
    return output[0] if isinstance(output, tuple) else output


BlockHook = Callable[[int, BlockCall, Tensor], Tensor | None]
"""Is told the block's index (0 at the input side), its call and its output; may replace that."""


@contextmanager
def watching(model: PreTrainedModel, hook: BlockHook) -> Iterator[None]:
    """Calls a hook after every block of every forward pass until the context is left.

    The hooks are removed however the context is left. Nothing is stored: what a hook does not keep
    is gone when the pass goes on.

    Args:
        model: The Hugging Face model, plain or with an adapter inside.
        hook: Is called in the order of blocks; a tensor that it returns becomes the block's output.

    Raises:
        UserError: If the model's structure is unknown, or a block returns more than its hidden
            states.
    """
    handles = []

    def watch(index: int) -> Callable[..., object]:
        def forward_hook(
            block: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: Any
        ) -> object:
            stream = stream_of(output)
            if not args or not isinstance(args[0], Tensor) or not isinstance(stream, Tensor):
                raise UserError(
                    f"block {index} ({type(block).__name__}) does not map one tensor to one: "
                    "audits of blocks need the hidden states first in and first out"
                )
            replaced = hook(index, BlockCall(args[0], args[1:], kwargs), stream)
            if replaced is None or isinstance(output, Tensor):
                return replaced
            return (replaced, *output[1:])

        return forward_hook

    try:
        for index, block in enumerate(transformer_blocks(model)):
            handles.append(block.register_forward_hook(watch(index), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
