"""Can a run's record sets be told apart by their texts alone? Judged once for all its audits."""

import weakref

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from audits.scoring.blind_baseline import BlindOptions, BlindSide
from audits.scoring.shift_test import ShiftTest
from audits.scoring.token_statistics import record_set_hash
from common.keys import key


def shared_shift_test(
    trainer: Trainer,
    population: str,
    members: BlindSide,
    nonmembers: BlindSide,
    options: BlindOptions,
    skipped: int = 0,
    dealt_by_coins: bool = False,
) -> ShiftTest:
    """Returns what the texts of a population and its non-members alone tell.

    Rank 0 measures it and tells the reader once; it is the same on every rank, and for every audit
    of the run that asks about the same records with the same options.

    Args:
        trainer: The run's.
        population: The members' population.
        members: Its records that can be scored.
        nonmembers: The records opposed to them.
        options: How shift is measured and judged.
        skipped: Records of both sides that cannot be scored.
        dealt_by_coins: Whether fair coins dealt the sides.
    """
    known = _SHIFT_TESTS.setdefault(trainer, {})
    hashes = (record_set_hash(side.records) for side in (members, nonmembers))
    asked = key(population, str(options), skipped, *hashes)
    if asked not in known:
        own = []
        if trainer.is_global_zero:
            own = [ShiftTest.of(population, members, nonmembers, options, skipped, dealt_by_coins)]
        (shift_test,) = trainer.strategy.broadcast(own)
        known[asked] = shift_test
        if shift_test.message is not None:
            (rank_zero_warn if shift_test.alarming else rank_zero_info)(shift_test.message)
    return known[asked]


_SHIFT_TESTS: "weakref.WeakKeyDictionary[Trainer, dict[int, ShiftTest]]" = (
    weakref.WeakKeyDictionary()
)
