"""Coins: agreed on by a whole step, right on average, and decaying as ImitKD's."""

from dataclasses import replace

import pytest
import torch

from common.errors import UserError
from kdmodules.responses import MixedResponses
from kdmodules.responses.mixed import keyed_coin
from kdmodules.sampling.sampler import SamplingSettings
from tests.kdmodules.responses.conftest import MakeContext, batch_of, random_records, scored

SAMPLING = SamplingSettings(max_new_tokens=4)


def test_a_step_is_one_coin(make_context: MakeContext) -> None:
    records = random_records(4)
    source = MixedResponses(0.5, sampling=SAMPLING)
    kinds = []
    for step in range(12):
        context = make_context(records, step=step, accumulate=2)
        kept = []
        for micro_batch, part in enumerate((records[:2], records[2:])):
            batch = batch_of(part)
            other = replace(context, micro_batch=micro_batch, rank=micro_batch)
            kept.append(torch.equal(source.replace(batch, other).input_ids, batch.input_ids))
        assert kept[0] == kept[1]
        kinds.append(kept[0])
    assert len(set(kinds)) == 2


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_coins_fall_with_their_probability(probability: float) -> None:
    heads = sum(keyed_coin(probability, 0, "test", step) for step in range(4000))
    assert heads / 4000 == pytest.approx(probability, abs=0.03)


def test_records_have_their_own_coins(make_context: MakeContext) -> None:
    records = random_records(24)
    source = MixedResponses(0.5, coin="record", sampling=SAMPLING)
    found = scored(source.replace(batch_of(records), make_context(records)))
    own = {r.record_id: r.response_ids for r in records}
    kept = [name for name in own if found[name] == own[name]]
    assert 4 <= len(kept) <= 20
    part = scored(source.replace(batch_of(records[7:9]), make_context(records)))
    assert part == {name: found[name] for name in part}


def test_imitation_decays(make_context: MakeContext) -> None:
    source = MixedResponses(coin="record", dataset_decay=200.0, sampling=SAMPLING)
    shares = [source.student_share(make_context([], step=step)) for step in (0, 50, 100)]
    assert shares == pytest.approx([0.0, 1 - 200**-0.5, 1 - 1 / 200])


@pytest.mark.parametrize(
    "options", [{"probability": 1.5}, {"coin": "token"}, {"dataset_decay": 0.5}]
)
def test_bad_options_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        MixedResponses(**options)
