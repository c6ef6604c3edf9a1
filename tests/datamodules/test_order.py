"""Dealing batches to steps and ranks: nothing dropped, nothing twice, equal for equal seeds."""

import pytest

from datamodules.order import TrainingOrder, evaluation_order


def order(n: int, batch_size: int, accumulate: int = 1, world: int = 1, **options: object):
    ids = [f"id{i}" for i in range(n)]
    return [
        TrainingOrder(
            record_ids=ids,
            batch_size=batch_size,
            accumulate=accumulate,
            world_size=world,
            rank=rank,
            seed=5,
            **options,
        )
        for rank in range(world)
    ]


@pytest.mark.parametrize("n", [1, 7, 16, 50])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_and_steps_share_global_batches_without_loss_or_repeat(
    n: int, batch_size: int, accumulate: int, world: int
):
    ranks = order(n, batch_size, accumulate, world)
    for epoch in range(2):
        whole = order(n, batch_size)[0].global_batches(epoch)
        dealt = [one.micro_batches(epoch) for one in ranks]
        assert {len(one) for one in dealt} == {len(ranks[0])} == {len(whole) * accumulate}
        for number, batch in enumerate(whole):
            slots = [
                slot
                for one in dealt
                for micro in one[number * accumulate : (number + 1) * accumulate]
                for slot in micro
            ]
            assert sorted(s.index for s in slots if s.scored) == sorted(batch)
            sizes = [
                sum(slot.scored for slot in micro)
                for one in dealt
                for micro in one[number * accumulate : (number + 1) * accumulate]
            ]
            assert max(sizes) - min(sizes) <= 1
        assert all(micro for one in dealt for micro in one)
        assert sorted(i for batch in whole for i in batch) == list(range(n))


def test_order_is_a_function_of_seed_and_epoch_and_ids():
    one, again = order(50, 8)[0], order(50, 8)[0]
    assert one.global_batches(3) == again.global_batches(3)
    assert one.global_batches(3) != one.global_batches(4)
    reversed_ids = TrainingOrder(
        record_ids=one.record_ids[::-1], batch_size=8, accumulate=1, world_size=1, rank=0, seed=5
    )
    there = [[one.record_ids[i] for i in batch] for batch in one.global_batches(0)]
    back = [[reversed_ids.record_ids[i] for i in batch] for batch in reversed_ids.global_batches(0)]
    assert there == back


def test_copies_of_a_record_are_spread_over_the_epoch():
    copies = TrainingOrder(
        record_ids=["same"] * 16 + [f"id{i}" for i in range(400)],
        batch_size=8,
        accumulate=1,
        world_size=1,
        rank=0,
        seed=0,
    )
    batches = [sum(i < 16 for i in batch) for batch in copies.global_batches(0)]
    assert max(batches) <= 4


def test_batches_of_similar_length():
    lengths = [(i * 37) % 400 + 1 for i in range(203)]
    grouped = order(203, 8, lengths=lengths)[0]
    batches = grouped.global_batches(1)
    assert sorted(i for batch in batches for i in batch) == list(range(203))
    assert [len(batch) for batch in batches] == [8] * 25 + [3]

    def padding(some: list[list[int]]) -> int:
        return sum(sum(max(lengths[j] for j in b) - lengths[i] for i in b) for b in some)

    assert padding(batches) < 0.3 * padding(order(203, 8)[0].global_batches(1))
    assert [lengths[batch[0]] for batch in batches] != sorted(lengths[b[0]] for b in batches)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_development_batches_are_the_same_for_any_number_of_ranks(world: int):
    lengths = [(i * 31) % 100 + 1 for i in range(37)]
    dealt = [evaluation_order(lengths, 8, rank, world) for rank in range(world)]
    assert len({len(one) for one in dealt}) == 1
    scored = [tuple(s.index for s in b) for one in dealt for b in one if b[0].scored]
    alone = [tuple(s.index for s in b) for b in evaluation_order(lengths, 8, 0, 1)]
    assert sorted(scored) == sorted(alone)
    assert sorted(i for batch in scored for i in batch) == list(range(37))
