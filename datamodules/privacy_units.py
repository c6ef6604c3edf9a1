"""What differential privacy counts: clusters of near-duplicates, and how many a side expects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from datamodules.instruction import InstructionDataModule
from datamodules.splits import POOL


@dataclass(frozen=True)
class PrivacyUnits:
    """The units of a side of the pool.

    Attributes:
        unit_of: Unit of each record that is trained on, by record id: its cluster; a canary's
            copies are one.
        expected: Units that a fair coin each is expected to put on the side: half the pool's
            clusters and coin canaries. A constant of the pool: the number that the coins did put
            there is private.
        kind: ``subject`` where every record of the pool belongs to one, so that a cluster holds
            all records of its subjects; else ``cluster``.
    """

    unit_of: Mapping[str, str]
    expected: float
    kind: Literal["cluster", "subject"]


def privacy_units(data: InstructionDataModule, split: str) -> PrivacyUnits:
    """Returns the units of the side that a module trains on.

    Args:
        data: After its `setup`.
        split: private or held_out.

    Raises:
        ValueError: Two clusters hold records of one id.
    """
    pool = [placement for placement in data.world.placements if placement.split in POOL]
    cluster_of = {placement.content: placement.cluster for placement in pool}
    unit_of: dict[str, str] = {}
    for record in data.training_records(split):
        unit = cluster_of.get(record.content, record.id)
        if unit_of.setdefault(record.id, unit) != unit:
            raise ValueError(f"records of the id {record.id} lie in several clusters")
    coins = sum(canary.series == "coin" for canary in data.canaries)
    parts = data.splits.private_parts if split == "private" and data.private_part is not None else 1
    of_subjects = all(placement.record.subject is not None for placement in pool)
    return PrivacyUnits(
        unit_of,
        (len(set(cluster_of.values())) + coins) / 2 / parts,
        "subject" if of_subjects else "cluster",
    )
