"""A swapped block is the block of a model that has it; what does not fit is not reported."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from audits.blocks.profile import Figure, MeasuredSide, Profile
from audits.blocks.signals import BlockSwap
from audits.scoring.references import ReferenceModel
from audits.statistics import auroc, paired_difference
from common.errors import UserError
from datamodules.records import InstructionRecord
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.network import Network, build_network
from tests.audits.blocks.conftest import (
    access_of,
    batch_of,
    block_access,
    plain_log_likelihoods,
    tiny,
    unchanged,
)
from tests.kdmodules.conftest import TINY

Tokenizer = PreTrainedTokenizerFast
Records = list[InstructionRecord]


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama"])
def test_equals_models_with_the_other_block(
    family: str, tokenizer: Tokenizer, few_records: Records
) -> None:
    model, other = (tiny(family, tokenizer, seed).double() for seed in (1, 2))
    donor = access_of(other, tokenizer)
    asked: list[str] = []

    def load(name: str) -> ReferenceModel:
        asked.append(name)
        return ReferenceModel(donor.lm, donor.encoder)

    access = block_access(model, tokenizer, 2, load)
    with unchanged(model), unchanged(other), torch.inference_mode():
        found = BlockSwap("twin").measure(access, donor.encoder.encode_all(few_records))
    assert asked == ["twin"]
    batch = batch_of(donor, few_records)
    for block in range(2):
        for place, (one, two) in enumerate(
            ((access.model.lm, donor.lm), (donor.lm, access.model.lm))
        ):
            swapped = copy.deepcopy(one)
            transformer_blocks(swapped.model)[block] = transformer_blocks(two.model)[block]
            torch.testing.assert_close(
                found[:, block, place], plain_log_likelihoods(swapped, batch)
            )
            torch.testing.assert_close(
                found[:, block, 2 + place], plain_log_likelihoods(one, batch)
            )


def figures(profile: Profile, metric: str) -> list[Figure]:
    return [one for one in profile.figures if one.metric == metric]


def test_changes_are_paired_and_a_swap_that_does_not_fit_is_not_reported(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    inside, outside = draw.normal(0.5, 1, (60, 3, 4)), draw.normal(0, 1, (50, 3, 4))
    for side in (inside, outside):
        side[:, 1:, 2:] = side[:, :1, 2:]
    outside -= outside.mean(axis=0)
    outside[:, 1, 0] -= 0.2
    # The donor alone is worse than the model: a swap is judged against the better of the two.
    outside[:, :, 3] -= 0.1
    sides = [
        MeasuredSide(torch.from_numpy(values), ["a"] * len(values), np.arange(len(values)) + first)
        for values, first in ((inside, 0), (outside, 100))
    ]
    signal = BlockSwap("twin")
    with pytest.raises(RuntimeError, match="was not fitted"):
        signal.oppose(*sides)
    # What no model met decides, whatever becomes of the audited records.
    never = torch.from_numpy(outside.copy())
    outside[:, 2, :2] -= 5.0
    sides[1] = replace(sides[1], measured=torch.from_numpy(outside))
    monkeypatch.setattr(signal, "measure", lambda access, encoded: never)
    access = block_access(tiny("gpt2", tokenizer), tokenizer)
    with pytest.raises(UserError, match="no model met"):
        signal.fitted(access)
    into_model, into_donor = signal.fitted(replace(access, never=list)).oppose(*sides)
    assert [one.value for one in figures(into_model, "nll_rise")] == pytest.approx([0, 0.2, 0])
    assert [one.value for one in figures(into_donor, "nll_rise")] == pytest.approx([0, 0, 0])
    areas, changes = figures(into_model, "auroc"), figures(into_model, "auroc_change")
    assert [one.value is None for one in areas] == [False, True, False]
    assert [one.value is None for one in changes] == [False, True, False]
    assert changes[1].p_value is None
    assert not figures(into_model, "max_minus_min")
    assert len(figures(into_donor, "max_minus_min")) == 1
    for place, profile in enumerate((into_model, into_donor)):
        expected = paired_difference(
            inside[:, 2, place], outside[:, 2, place], inside[:, 2, 2 + place],
            outside[:, 2, 2 + place],
        )  # fmt: skip
        found = figures(profile, "auroc_change")[2]
        assert found.value == pytest.approx(expected.value)
        assert found.lower == pytest.approx(expected.lower, abs=1e-3)
        own = auroc(inside[:, 2, place], outside[:, 2, place]).value
        assert figures(profile, "auroc")[2].value == pytest.approx(own)
    assert into_model.params == {
        "measure": "donor_into_model",
        "donor": "twin",
        "max_nll_rise": 0.05,
        "gate": "never",
    }


def test_a_donor_of_another_shape_is_refused(tokenizer: Tokenizer, few_records: Records) -> None:
    deeper = Network("gpt2", None, {**TINY["gpt2"], "n_layer": 3})
    for other in (build_network(deeper, tokenizer, 0).eval(), tiny("llama", tokenizer)):
        donor = access_of(other, tokenizer)
        reference = ReferenceModel(donor.lm, donor.encoder)
        access = block_access(
            tiny("gpt2", tokenizer), tokenizer, 8, lambda name, found=reference: found
        )
        with pytest.raises(
            UserError, match=r"reference 'twin' is .* and the audited model gpt2 of 2"
        ):
            BlockSwap("twin").measure(access, donor.encoder.encode_all(few_records))
    with pytest.raises(UserError, match="more than 0"):
        BlockSwap(max_nll_rise=0.0)
