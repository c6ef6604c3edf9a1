"""Watches every transformer block of a model while it runs; its hooks never stay behind."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel

from common.errors import UserError
from kdmodules.models import families


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
        return block(hidden, *self.args, **self.kwargs)


BlockHook = Callable[[int, BlockCall, Tensor], Tensor | None]
"""Is told the block's index (0 at the input side), its call and its output; may replace that."""


def transformer_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """Returns a model's transformer blocks, input side first.

    Raises:
        UserError: If the model's structure is unknown, with the names that were looked for and the
            two lines that make it known.
    """
    try:
        families.final_norm(model)
        return families.blocks(model)
    except UserError as error:
        looked_for = ", ".join(
            f"{family.blocks} and {family.final_norm} ({family.name})"
            for family in families.FAMILIES.values()
        )
        raise UserError(
            f"{type(model).__name__} has no blocks that this audit knows; looked for {looked_for}. "
            "Add to FAMILIES in kdmodules/models/families.py: Family(name=..., config_class=..., "
            "model_class=..., trunk=..., adapter_targets=..., blocks='path.of.the.block.list', "
            "final_norm='path.of.the.norm.behind.it')"
        ) from error


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

    def watch(index: int) -> Callable[..., Tensor | None]:
        def forward_hook(
            block: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: object
        ) -> Tensor | None:
            if not args or not isinstance(args[0], Tensor) or not isinstance(output, Tensor):
                raise UserError(
                    f"block {index} ({type(block).__name__}) does not map one tensor to one: "
                    "audits of blocks need the hidden states first in and alone out"
                )
            return hook(index, BlockCall(args[0], args[1:], kwargs), output)

        return forward_hook

    try:
        for index, block in enumerate(transformer_blocks(model)):
            handles.append(block.register_forward_hook(watch(index), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
