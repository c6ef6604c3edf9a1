"""GELU as GPT-2's published configurations name it, as one kernel."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers.activations import NewGELUActivation


def fuse_activations(model: nn.Module) -> None:
    """Lets PyTorch's own kernel compute GELU's tanh form, in place.

    The published GPT-2 configurations name ``gelu_new``, which transformers writes as eight tensor
    operations: autograd keeps four tensors of the block's inner width for it where the kernel keeps
    one, and in bfloat16 each operation rounds. The function is the same, and so is the
    configuration, which exports carry on.
    """
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


@contextmanager
def activations_kept(model: nn.Module) -> Iterator[None]:
    """Puts back, errors or not, the activations that `fuse_activations` replaces meanwhile."""
    before = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, NewGELUActivation)
    ]
    try:
        yield
    finally:
        for module, name, child in before:
            setattr(module, name, child)
