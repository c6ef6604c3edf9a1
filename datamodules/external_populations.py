"""The record sets of an audit of a model that was trained elsewhere."""

from collections.abc import Sequence
from itertools import combinations

from common.errors import UserError
from datamodules.near_duplicates import cluster_records
from datamodules.populations import Populations, distinct, require_disjoint
from datamodules.records import InstructionRecord

_FEWEST_RECORDS = 2
_NEVER = "never"


class ExternalPopulations(Populations):
    """The given members under the name external, the given non-members under held_out, and under
    never, where they are given, records that nobody's training met.

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
        sources: Sequence[str],
        near_duplicate_threshold: float,
        never: Sequence[InstructionRecord] | None = None,
    ) -> None:
        """Takes all sides and clusters their near-duplicates.

        Args:
            members: records that the model was trained on.
            nonmembers: records from the same distribution that it never saw.
            sources: what the sides are called in an error, in the order of these arguments.
            near_duplicate_threshold: Jaccard similarity from which two texts are in one cluster.
            never: records that no model of the audit, nor any of its teachers, was trained on; None
                where there are none.

        Raises:
            UserError: fewer than two distinct records on a side that can be scored, a record on
                two sides, or sides of several kinds.
        """
        given = [members, nonmembers, *([] if never is None else [never])]
        sides = [distinct(records) for records in given]
        for source, records in zip(sources, sides, strict=True):
            scorable = sum(bool(record.response) for record in records)
            if scorable < _FEWEST_RECORDS:
                raise UserError(
                    f"{source}: {scorable} distinct record(s) with a response; an audit needs at "
                    f"least {_FEWEST_RECORDS} on each side"
                )
        for pair in combinations(zip(sides, sources, strict=True), 2):
            (ours, one), (theirs, other) = pair
            _require_alike(ours, theirs, (one, other))
            require_disjoint(ours, theirs)
        everything = [record for side in sides for record in side]
        names = cluster_records(everything, threshold=near_duplicate_threshold)
        self._cluster_of = {r.content: name for r, name in zip(everything, names, strict=True)}
        self._populations = dict(zip(("external", "held_out", _NEVER), sides, strict=False))

    @property
    def names(self) -> list[str]:
        """Names of the populations, members first."""
        return list(self._populations)

    def has(self, name: str) -> bool:
        """Whether records were given under that name."""
        return name in self._populations

    def population(self, name: str) -> list[InstructionRecord]:
        """Members under the name external, non-members under held_out; each content once."""
        if name not in self._populations:
            hint = (
                ": kd_privacy.audit(..., never=...) and kd-privacy audit --never take records that "
                "no model met"
            )
            raise UserError(
                f"this audit of an external model has no population {name!r}, only "
                f"{', '.join(self._populations)}{hint if name == _NEVER else ''}"
            )
        return self._populations[name]

    def by_role(self, split: str, role: str) -> list[InstructionRecord]:
        """None: every given record is audited.

        Raises:
            UserError: always, before an attack judges records that it has read.
        """
        raise UserError(
            f"an attack reads records of the use {role!r}, and every record that was given is "
            "audited: leave that attack out (recall and con_recall read shots), or audit a run, "
            "whose data.splits.roles keep records aside"
        )

    def development_records(self) -> list[InstructionRecord]:
        """The non-members."""
        return self._populations["held_out"]


def _require_alike(
    ours: Sequence[InstructionRecord], theirs: Sequence[InstructionRecord], sources: Sequence[str]
) -> None:
    """Refuses sides that differ in their form alone, by which anything would tell them apart."""
    sides = (ours, theirs)
    kinds = [side[0].kind for side in sides]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"{sources[1]}: its records are of the kind {kinds[1]} ({theirs[0].origin}), those of "
            f"{sources[0]} {kinds[0]} ({ours[0].origin}): give both sides in one form"
        )
    for field, attribute in (("category", "task"), ("subject", "subject")):
        named = [any(getattr(record, attribute) for record in side) for side in sides]
        if named[0] != named[1]:
            has, lacks = sources if named[0] else sources[::-1]
            raise UserError(
                f"{lacks}: no record has a {field}, as those of {has} have: give it to both sides "
                "or leave the field out of both"
            )
