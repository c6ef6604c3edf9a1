"""Weights of which a rank holds some rows: read, overwritten in place and given back to the bit.

FSDP2 keeps a shard of every weight on every rank and gathers a whole copy for the time of a
module's forward pass. What is to reach the model is written into the shards, each rank into its
own; a whole copy from before then counts for nothing and has to go. Weights that are not sharded
are one shard, and nothing is gathered.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.sharding import held_rows


def held_part(weight: Tensor) -> Tensor:
    """Returns the live memory of the rows that this rank holds; call it where gradients are off."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


def first_held(weight: Tensor) -> int:
    """Returns the index of the first number that this rank holds in the flattened weight."""
    if not isinstance(weight, DTensor):
        return 0
    row, _ = held_rows(weight)
    return row * (weight.numel() // weight.shape[0])


def root_mean_square(weight: Tensor) -> float:
    """Returns that of the whole weight, from float64 squares; work for all ranks at once.

    Call it where gradients are off.
    """
    norm = torch.linalg.vector_norm(held_part(weight), dtype=torch.float64)
    if isinstance(weight, DTensor):
        squares = norm.square()
        torch.distributed.all_reduce(squares, group=weight.device_mesh.get_group())
        norm = squares.sqrt()
    return float(norm) / math.sqrt(weight.numel())


@contextmanager
def given_back(weights: Mapping[str, nn.Parameter]) -> Iterator[dict[str, Tensor]]:
    """Yields copies of what this rank holds of weights and writes them back, whatever happened.

    Taking a disturbance off again would leave the rounding of two additions behind.
    """
    with torch.no_grad():
        originals = {name: held_part(weight).clone() for name, weight in weights.items()}
    try:
        yield originals
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                held_part(weight).copy_(originals[name])


def gather_anew(module: nn.Module) -> None:
    """Lets the next forward pass see shards that were overwritten.

    Args:
        module: The model between two passes, or a block between two of its passes inside the
            model's root forward.
    """
    sharded = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in sharded:
        part.reshard()
    device = next(module.parameters()).device
    if sharded and device.type != "cpu":
        # FSDP2 copies shards out on a stream of its own. That stream waits for the current one
        # when the root's forward begins and never inside it, so what was written may be under way.
        torch.accelerator.current_stream(device).synchronize()


@contextmanager
def no_copy_left(lm: CausalLM) -> Iterator[None]:
    """Frees whole copies of sharded weights afterwards, whatever happened.

    Enter it before :func:`given_back`, so that the shards hold their own again by then.
    """
    try:
        yield
    except BaseException:
        whole = [weight for weight in lm.parameters() if not isinstance(weight, DTensor)]
        if isinstance(lm, FSDPModule) and whole:
            # In a pass that was broken off, modules count as running and would keep their copies.
            lm.reset_iter_state()
        raise
    gather_anew(lm)
