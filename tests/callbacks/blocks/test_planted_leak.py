"""A leak that one block holds goes with that block; a model without a leak accuses no block."""

import numpy as np
import pytest

from benchmarks.block_localisation import Planted, areas, plant, profiles, signals
from callbacks.blocks.profile import Figure, Profile
from callbacks.blocks.rows import title
from callbacks.blocks.signals import BlockMoPe, BlockSwap, LogitLens, TunedLens
from callbacks.statistics.delong import logit_interval

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
