"""Dealing to ranks: everything once, equally much, back in order."""

import pytest
import torch

from common.ranks import Ranks


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [1, 2, 4, 7, 15])
def test_gathered_shares_are_the_items(
    n: int, world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = list(range(n))
    shares = [Ranks(rank, world_size).share(items) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1

    def all_gather(every: list[list[int]], mine: list[int]) -> None:
        assert mine == shares[0]
        every[:] = shares

    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather)
    assert Ranks(0, world_size).gather(shares[0])[:n] == items


def test_nothing_to_deal() -> None:
    assert Ranks(1, 3).share([]) == []
