"""Evaluation mode for a while, each part's own mode put back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(module: nn.Module, entered: bool = True) -> Iterator[None]:
    """Puts a module into evaluation mode; each part's own mode comes back, errors or not.

    Args:
        module: Whose parts.
        entered: False leaves all as it is.
    """
    before = [(part, part.training) for part in module.modules()]
    if entered:
        module.eval()
    try:
        yield
    finally:
        for part, mode in before:
            part.training = mode
