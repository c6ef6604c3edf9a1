"""Batches that draw every unit by a coin of its own, as a privacy accountant assumes.

Batches that are shuffled and dealt are not drawn so, and may not be accounted for so: the leak can
be several times what is then claimed (Annamalai et al. 2024, arXiv 2411.10614).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from common.keys import key
from common.secret_randomness import secret_generator
from datamodules.order import Slot


@dataclass(frozen=True)
class PoissonSampling:
    """What decides the batches of a training that draws units independently.

    Attributes:
        unit_of: Unit of each record, by record id: a cluster of near-duplicates.
        rate: Chance of a unit to be drawn in a step.
        steps: Draws of an epoch; a constant, whatever the number of records.
        secret: Key of all draws.
    """

    unit_of: Mapping[str, str]
    rate: float
    steps: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class PoissonOrder:
    """Deals each draw to ranks, unit by unit; one batch is one draw and one optimiser step.

    Attributes:
        record_ids: Id of each record of the split.
        sampling: What decides the draws.
        world_size: Number of ranks.
        rank: This rank.
    """

    record_ids: Sequence[str]
    sampling: PoissonSampling
    world_size: int
    rank: int

    def __len__(self) -> int:
        """Batches of an epoch, the same on every rank."""
        return self.sampling.steps

    @cached_property
    def units(self) -> dict[str, list[int]]:
        """Positions of the records of each unit, by its name, in the names' order."""
        positions: defaultdict[str, list[int]] = defaultdict(list)
        for position, record_id in enumerate(self.record_ids):
            positions[self.sampling.unit_of[record_id]].append(position)
        return dict(sorted(positions.items()))

    def drawn(self, step: int) -> list[str]:
        """The units of an optimiser step, on all ranks together; there may be none."""
        draws = secret_generator(self.sampling.secret, "units", step).random(len(self.units))
        return [
            unit for unit, draw in zip(self.units, draws, strict=True) if draw < self.sampling.rate
        ]

    def micro_batches(self, epoch: int) -> list[list[Slot]]:
        """This rank's batches of an epoch; a rank without a unit gets a filler, which is not
        scored.
        """
        batches = []
        for step in range(epoch * len(self), (epoch + 1) * len(self)):
            mine = self.drawn(step)[self.rank :: self.world_size]
            slots = [Slot(position) for unit in mine for position in self.units[unit]]
            batches.append(slots or [Slot(0, scored=False)])
        return batches

    @property
    def identity(self) -> dict[str, Any]:
        """What fixes the draws, as a checkpoint may tell it: the records under the secret."""
        sampling = self.sampling
        return {
            "training records": key(sampling.secret.hex(), *self.record_ids),
            "sampling rate": sampling.rate,
            "steps of an epoch": sampling.steps,
        }
