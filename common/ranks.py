"""Dealing work to ranks: everything is done once, and every rank does equally much."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        rank: Index of this process.
        world_size: Number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Returns this rank's items, equally many on every rank.

        Items are dealt in turn. Sharded models need every rank in every forward pass, so a rank
        that is short repeats the last item; :meth:`gather` keeps one copy of each.
        """
        rounds = -(-len(items) // self.world_size)
        places = range(self.rank, rounds * self.world_size, self.world_size)
        return [items[min(place, len(items) - 1)] for place in places]

    def gather(self, found: list[Item]) -> list[Item]:
        """Returns the results of all ranks' items in the order before the dealing, repeats last."""
        if self.world_size == 1:
            return found
        every: list[list[Item]] = [[] for _ in range(self.world_size)]
        torch.distributed.all_gather_object(every, found)
        return [item for round_ in zip(*every, strict=True) for item in round_]
