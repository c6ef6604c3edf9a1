"""The two record sets of an audit of a model that was trained elsewhere."""

from collections.abc import Sequence

from common.errors import UserError
from datamodules.near_duplicates import cluster_records
from datamodules.populations import Populations, distinct, require_disjoint
from datamodules.records import InstructionRecord

_FEWEST_RECORDS = 2


class ExternalPopulations(Populations):
    """The given members under the name external, the given non-members under held_out.

    Each content stands once. The non-members' loss is the development loss.
    """

    member_population = "external"
    trained_elsewhere = True

    def __init__(self) -> None:
        super().__init__()
        self._populations: dict[str, list[InstructionRecord]] = {}

    def fill(
        self,
        members: Sequence[InstructionRecord],
        nonmembers: Sequence[InstructionRecord],
        sources: tuple[str, str],
        near_duplicate_threshold: float,
    ) -> None:
        """Takes both sides and clusters their near-duplicates.

        Args:
            members: records that the model was trained on.
            nonmembers: records from the same distribution that it never saw.
            sources: what both are called in an error.
            near_duplicate_threshold: Jaccard similarity from which two texts are in one cluster.

        Raises:
            UserError: fewer than two distinct records on a side that can be scored, or a record on
                both sides.
        """
        sides = [distinct(members), distinct(nonmembers)]
        for source, records in zip(sources, sides, strict=True):
            scorable = sum(bool(record.response) for record in records)
            if scorable < _FEWEST_RECORDS:
                raise UserError(
                    f"{source}: {scorable} distinct record(s) with a response; an audit needs at "
                    f"least {_FEWEST_RECORDS} on each side"
                )
        require_disjoint(*sides)
        everything = [record for side in sides for record in side]
        names = cluster_records(everything, threshold=near_duplicate_threshold)
        self._cluster_of = {r.content: name for r, name in zip(everything, names, strict=True)}
        self._populations = {"external": sides[0], "held_out": sides[1]}

    def population(self, name: str) -> list[InstructionRecord]:
        """Members under the name external, non-members under held_out; each content once."""
        if name not in ("external", "held_out"):
            raise UserError(
                f"an external audit has no population {name!r}, only external, held_out"
            )
        return self._populations[name]

    def by_role(self, split: str, role: str) -> list[InstructionRecord]:
        """None: every given record is audited."""
        return []

    def development_records(self) -> list[InstructionRecord]:
        """The non-members."""
        return self._populations["held_out"]
