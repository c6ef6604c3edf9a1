"""The tiled maximum equals the whole product's."""

import pytest
import torch

from kdmodules.sampling import likeliest
from kdmodules.sampling.likeliest import likeliest_tokens


@pytest.mark.parametrize("vocabulary", [1, 255, 256, 257, 1000])
def test_equals_the_maximum_of_all_logits(vocabulary: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeliest, "_CPU_TILE_ELEMENTS", 1)
    draw = torch.Generator().manual_seed(0)
    # Whole numbers: every product is exact, and many logits are equal.
    hidden = torch.randint(-2, 3, (40, 6), generator=draw).double()
    weight = torch.randint(-2, 3, (vocabulary, 6), generator=draw).double()
    top, place = likeliest_tokens(hidden, weight)
    logits = hidden @ weight.T
    assert torch.equal(top, logits.amax(dim=-1))
    lowest = [row.tolist().index(max(row.tolist())) for row in logits]
    assert place.tolist() == lowest


def test_a_logit_that_is_not_a_number_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeliest, "_CPU_TILE_ELEMENTS", 1)
    weight = torch.ones(600, 2)
    weight[10] = torch.nan
    top, _ = likeliest_tokens(torch.ones(3, 2), weight)
    assert top.isnan().all()


def test_no_rows_give_nothing() -> None:
    top, place = likeliest_tokens(torch.ones(0, 2), torch.ones(5, 2))
    assert top.shape == place.shape == (0,)
