"""A leak that one block holds goes with that block; a model without a leak accuses no block."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from audits.blocks.profile import Figure, Profile
from audits.blocks.rows import title
from audits.blocks.signals import BlockMoPe, BlockSwap, LogitLens, TunedLens
from audits.scoring.model_access import ModelAccess
from audits.statistics.delong import logit_interval
from benchmarks.block_localisation import Planted, areas, plant, profiles, signals, train
from kdmodules.models.anatomy import transformer_blocks

TRAINED, N_BLOCKS, N_RECORDS = 1, 3, 32
NULL = logit_interval(0.5, 2 * N_RECORDS / (12 * N_RECORDS**2), N_RECORDS, 0.01)


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(
        TRAINED, seed=0, n_blocks=N_BLOCKS, width=48, n_records=N_RECORDS, steps=50, leak_steps=50
    )


def of_block(profile: Profile, metric: str) -> list[Figure]:
    return [one for one in profile.figures if one.metric == metric]


def test_the_leak_goes_with_the_trained_block_alone(planted: Planted) -> None:
    into_model, into_donor = profiles(
        BlockSwap("before", max_nll_rise=0.5), planted.after, planted, planted.before
    )
    for block in range(N_BLOCKS):
        taken, given = areas(into_model)[block], areas(into_donor)[block]
        change = of_block(into_model, "auroc_change")[block]
        assert change.p_value is not None
        assert change.upper is not None
        if block == TRAINED:
            assert NULL[0] < taken < NULL[1]
            assert given > 0.9
            assert change.p_value < 1e-4
            assert change.upper < -0.2
        else:
            assert taken > 0.9
            assert NULL[0] < given < NULL[1]
            assert change.p_value > 0.05


@pytest.fixture(scope="module")
def counterfactual(planted: Planted) -> ModelAccess:
    """The same model, whose trained block met the non-members instead."""
    twin = replace(planted.before, lm=copy.deepcopy(planted.before.lm))
    trained = list(transformer_blocks(twin.lm.model)[TRAINED].parameters())
    train(twin.lm, planted.nonmembers, trained, 50)
    return twin


def test_a_donor_that_met_the_nonmembers_is_judged_by_what_neither_met(
    planted: Planted, counterfactual: ModelAccess
) -> None:
    swap = BlockSwap("counterfactual", max_nll_rise=0.5)
    found = profiles(swap, planted.after, planted, counterfactual)
    assert [len(areas(profile)) for profile in found] == [N_BLOCKS, N_BLOCKS]
    taken, given = (areas(profile)[TRAINED] for profile in found)
    assert taken < 0.1
    assert given > 0.9
    # Judged by the donor's own members, a swap seems not to fit wherever it takes them away.
    by_members = replace(planted, development=planted.nonmembers)
    into_model, into_donor = profiles(swap, planted.after, by_members, counterfactual)
    assert set(areas(into_model)) == {TRAINED}
    assert set(areas(into_donor)) == set(range(N_BLOCKS)) - {TRAINED}


def with_other_axes(access: ModelAccess) -> ModelAccess:
    """The same function to the last digit, by a residual stream whose axes are permuted."""
    lm = copy.deepcopy(access.lm)
    width = lm.model.config.n_embd
    axes = torch.randperm(width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "c_attn.weight" in name or "c_fc.weight" in name:
                weight.copy_(weight[axes])
            elif "c_attn.bias" not in name and "c_fc.bias" not in name:
                weight.copy_(weight[..., axes])
    return replace(access, lm=lm)


def test_a_swap_that_really_does_not_fit_is_refused(planted: Planted) -> None:
    stranger = with_other_axes(planted.before)
    swap = BlockSwap("stranger", max_nll_rise=0.05)
    for profile in profiles(swap, planted.before, planted, stranger):
        rises = [one.value for one in of_block(profile, "nll_rise")]
        # Behind the first block nothing was learnt yet that a stranger's block could spoil.
        assert rises[0] is not None
        assert rises[0] > 0.2
        assert 0 not in areas(profile)
        assert of_block(profile, "auroc_change")[0].value is None
        assert not of_block(profile, "max_minus_min")


def test_a_leak_is_seen_behind_its_block_and_not_before_it(planted: Planted) -> None:
    likelihood, gain = profiles(LogitLens(), planted.after, planted, planted.before)
    behind = areas(likelihood)
    assert NULL[0] < behind[0] < NULL[1]
    assert min(behind[1], behind[2]) > 0.9
    assert areas(gain)[TRAINED] > 0.9
    (spread,) = of_block(likelihood, "max_minus_min")
    assert spread.lower is not None
    assert spread.lower > 0.05


def test_a_translator_brings_the_leak_of_later_blocks_forward(planted: Planted) -> None:
    likelihood, _ = profiles(TunedLens(), planted.after, planted, planted.before)
    found = areas(likelihood)
    assert min(found.values()) > NULL[1]
    plain, _ = profiles(LogitLens(), planted.after, planted, planted.before)
    assert found[N_BLOCKS - 1] == areas(plain)[N_BLOCKS - 1]
    kl = {(one.metric, one.block): one.value for one in likelihood.figures}
    for block in range(N_BLOCKS - 1):
        assert kl["kl_tuned", block] < 0.7 * kl["kl_plain", block]


def test_weight_noise_reaches_untrained_blocks_too(planted: Planted) -> None:
    (found,) = profiles(BlockMoPe(), planted.after, planted, planted.before)
    assert min(areas(found).values()) > 0.65
    assert all(one.value and one.value > 0.5 for one in of_block(found, "reliability"))


def test_a_model_before_the_leak_accuses_no_block(planted: Planted) -> None:
    for signal in signals(conductance_steps=4):
        for profile in profiles(signal, planted.before, planted, planted.before):
            name = title(profile.name, profile.params)
            corrected = [one.p_value for one in of_block(profile, "auroc")]
            assert min(p for p in corrected if p is not None) > 0.05, name
            for one in of_block(profile, "auroc_change"):
                assert one.value == 0.0, name
            for one in of_block(profile, "equal_blocks_wald"):
                assert one.p_value is not None
                assert np.isfinite(one.p_value), name
