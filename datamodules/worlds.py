"""Who trains on what: a world is one throw of all coins, those of the pool and of the canaries.

What a run trains on and what an audit takes a reference's teacher to have met come from here alone,
so that the two cannot disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from datamodules.canaries import Canary, CanaryPlan, draw_canaries, planted_records
from datamodules.records import InstructionRecord
from datamodules.split_options import SplitOptions, check_split_options
from datamodules.splits import (
    Placement,
    in_world,
    members_of,
    part_of,
    pool_coin,
    split_records,
)

TEACHER = "teacher"
COUNTERFACTUAL = "counterfactual"
SHADOW = "shadow"


@dataclass(frozen=True)
class World:
    """Records and canaries after one throw of the coins.

    Attributes:
        options: how records are split; `options.shadow` numbers the throw, None being the first.
        canary_plan: canaries to plant; None plants none.
        placements: where each record is in this world.
        canaries: all canaries, with the coins of this world.
    """

    options: SplitOptions
    canary_plan: CanaryPlan | None
    placements: Sequence[Placement]
    canaries: Sequence[Canary]

    @staticmethod
    def of(
        records: Sequence[InstructionRecord], options: SplitOptions, plan: CanaryPlan | None
    ) -> "World":
        """Splits the records and draws the canaries of a world.

        Raises:
            UserError: see `split_records`.
        """
        return World(options, plan, split_records(records, options), canaries_of(options, plan))

    def thrown_anew(self, shadow: int) -> "World":
        """The world of `splits.shadow` number `shadow`: other coins, and nothing else moved.

        Raises:
            UserError: if the protocol throws no coins.
        """
        options = replace(self.options, shadow=shadow)
        check_split_options(options)
        placements = in_world(self.placements, options)
        return World(options, self.canary_plan, placements, canaries_of(options, self.canary_plan))

    def training_records(self, split: str, part: int | None = None) -> list[InstructionRecord]:
        """What a module that trains on a split of this world is served.

        Args:
            split: private, with the canaries that it holds; held_out, where the counterfactual
                teacher trains, with the coin canaries that private lacks; or public.
            part: 0-based part of the private split; None takes all.
        """
        placed = members_of(self.placements, split, self.options.protocol)
        records = [p.record for p in placed if part is None or p.part == part]
        if split == "held_out":
            return records + planted_records(self.canaries, "counterfactual")
        if split != "private":
            return records
        return records + planted_records(
            [canary for canary in self.canaries if part in (None, self._part(canary))]
        )

    def met(self, reference: str, records: Sequence[InstructionRecord]) -> list[bool] | None:
        """Whether the teacher behind a reference model trained on each record.

        A reference called ``teacher`` trained on all of the private side of this world, the teacher
        of one called ``counterfactual`` on the held-out side, and that of one called ``shadow<j>``
        on all of the private side of the world of `splits.shadow` j.

        Args:
            reference: name of the reference model.
            records: records of any split, or canaries.

        Returns:
            None where the name says nothing.

        Raises:
            UserError: a shadow world where the protocol throws no coins.
        """
        number = _shadow_number(reference)
        if reference == TEACHER:
            trained_on = self.training_records("private")
        elif reference == COUNTERFACTUAL:
            trained_on = self.training_records("held_out")
        elif number is not None:
            trained_on = self.thrown_anew(number).training_records("private")
        else:
            return None
        contents = {record.content for record in trained_on}
        return [record.content in contents for record in records]

    def placebo(self, reference: str, records: Sequence[InstructionRecord]) -> list[bool]:
        """How the coins of a shadow world fall for records of `never`, which no training reads.

        Args:
            reference: ``shadow<j>``, the name of a reference model of the world of `splits.shadow`
                j.
            records: records of `never`.

        Raises:
            UserError: if the protocol throws no coins.
        """
        options = replace(self.options, shadow=_shadow_number(reference))
        check_split_options(options)
        cluster_of = {p.content: p.cluster for p in self.placements if p.split == "never"}
        return [pool_coin(options, cluster_of[record.content]) == 1 for record in records]

    def _part(self, canary: Canary) -> int:
        return part_of(self.options, canary.id)


def _shadow_number(reference: str) -> int | None:
    number = reference.removeprefix(SHADOW)
    return int(number) if number != reference and number.isdecimal() else None


def canaries_of(options: SplitOptions, plan: CanaryPlan | None) -> list[Canary]:
    """Draws the canaries of a world; none without a plan."""
    return [] if plan is None else draw_canaries(plan, options.seed, options.shadow)
