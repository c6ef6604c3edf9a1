"""The rise of the loss under weight noise equals float64 models that are disturbed by hand."""

import copy
from dataclasses import replace

import pytest
import torch
from scipy import stats
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.membership.signals import WeightNoise
from audits.membership.signals.weight_noise import normal_numbers, weight_noise
from audits.scoring.model_access import ModelAccess
from common.errors import UserError
from common.keys import key
from datamodules.records import InstructionRecord
from kdmodules.sampling.keyed_choice import keyed_uniforms
from tests.audits.membership.signals.conftest import access_of, mean_nll
from tests.kdmodules.conftest import one_family

Model = PreTrainedModel
Tokenizer = PreTrainedTokenizerFast
Records = list[InstructionRecord]
RELATIVE = WeightNoise(draws=2, scale=0.3, relative=True, antithetic=True)
PUBLISHED = WeightNoise(draws=2, scale=0.05, relative=False, antithetic=False)


def measured(signal: WeightNoise, access: ModelAccess, records: Records) -> torch.Tensor:
    return signal.measure(access, access.encoder.encode_all(records))


@pytest.mark.parametrize("signal", [RELATIVE, PUBLISHED, replace(PUBLISHED, antithetic=True)])
def test_equals_models_disturbed_in_float64(
    family_model: Model, tokenizer: Tokenizer, records: Records, signal: WeightNoise
) -> None:
    access = access_of(family_model, tokenizer)
    encoded = access.encoder.encode_all(records)
    found = measured(signal, access, records)

    def losses(draw: int, sign: float) -> torch.Tensor:
        model = copy.deepcopy(family_model).double()
        for name, weight in model.named_parameters():
            rms = float(weight.detach().square().mean().sqrt()) if signal.relative else 1.0
            noise = weight_noise(family_model.get_parameter(name), access.seed, draw, name)
            weight.data += sign * signal.scale * rms * noise.double()
        return torch.stack([mean_nll(model, one, len(tokenizer)) for one in encoded]).detach()

    still = losses(0, 0.0)
    for draw in range(2):
        rise = losses(draw, 1.0) - still
        if signal.antithetic:
            rise = (rise + losses(draw, -1.0) - still) / 2
        assert rise.abs().max() > 1e-3
        torch.testing.assert_close(found[:, draw], rise, atol=1e-5, rtol=0)


@one_family
def test_batches_and_order_change_nothing(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    found = measured(RELATIVE, access_of(family_model, tokenizer), records)
    single = measured(RELATIVE, access_of(family_model, tokenizer, batch_size=1), records)
    turned = measured(RELATIVE, access_of(family_model, tokenizer), records[::-1]).flip(0)
    torch.testing.assert_close(single, found, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned, found, atol=1e-5, rtol=0)


@one_family
def test_more_draws_begin_with_the_same_ones(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    access = access_of(family_model, tokenizer)
    three = measured(replace(RELATIVE, draws=3), access, records)
    assert torch.equal(three[:, :2], measured(RELATIVE, access, records))
    assert not torch.equal(three[:, 2], three[:, 1])
    other_seed = measured(RELATIVE, replace(access, seed=1), records)
    assert not torch.equal(other_seed, three[:, :2])


@one_family
def test_weights_come_back_to_the_bit(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    access = access_of(family_model, tokenizer)
    before = {name: value.clone() for name, value in family_model.state_dict().items()}
    places = [parameter.data_ptr() for parameter in family_model.parameters()]
    measured(RELATIVE, access, records)
    with torch.inference_mode():
        measured(RELATIVE, access, records)
    with pytest.raises(FloatingPointError, match="cannot be scored"):
        measured(replace(PUBLISHED, scale=1e39), access, records)
    assert all(torch.equal(before[name], v) for name, v in family_model.state_dict().items())
    assert places == [parameter.data_ptr() for parameter in family_model.parameters()]


@one_family
def test_autocast_does_not_reach_the_differences(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    access = access_of(family_model, tokenizer)
    found = measured(RELATIVE, access, records)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(measured(RELATIVE, access, records), found)


@one_family
def test_half_precision_weights_are_refused(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    with pytest.raises(UserError, match="needs float32 weights"):
        measured(RELATIVE, access_of(family_model.bfloat16(), tokenizer), records)


def test_noise_is_standard_normal_and_keyed_by_name_and_draw() -> None:
    weight = torch.zeros(3, 200_001)
    noise = weight_noise(weight, 0, 0, "w")
    assert noise.shape == weight.shape
    sample = noise.flatten().double().numpy()
    assert stats.kstest(sample, "norm").pvalue > 0.01
    assert stats.kstest(sample**2, "chi2", args=(1,)).pvalue > 0.01
    assert torch.equal(weight_noise(weight, 0, 0, "w"), noise)
    for other in ((1, 0, "w"), (0, 1, "w"), (0, 0, "v")):
        correlation = float((weight_noise(weight, *other) * noise).mean())
        assert abs(correlation) < 4 / weight.numel() ** 0.5
    for lag in (1, 1 << 17, 1 << 18):
        correlation = float((sample[lag:] * sample[:-lag]).mean())
        assert abs(correlation) < 4 / (sample.size - lag) ** 0.5


def test_noise_of_some_rows_is_that_of_the_whole_tensors_rows() -> None:
    """Rows that begin and end inside chunks, a last chunk of an odd size, and no rows at all."""
    rows, columns = 900, 1001
    whole = weight_noise(torch.zeros(rows, columns), 3, 1, "w")
    own = torch.tensor([key(3, "weight noise", 1, "w")])
    for first, last in ((0, 450), (450, 900), (261, 262), (0, 900), (899, 900), (900, 900)):
        found = normal_numbers(
            own, rows * columns, first * columns, last * columns, torch.float32
        ).view(last - first, columns)
        assert torch.equal(found, whole[first:last])


def test_only_chunks_that_overlap_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks: list[int] = []

    def spy(keys: torch.Tensor, stream: int, count: int) -> torch.Tensor:
        chunks.append(stream)
        return keyed_uniforms(keys, stream, count)

    monkeypatch.setattr("audits.membership.signals.weight_noise.keyed_uniforms", spy)
    size = 1 << 18
    normal_numbers(torch.tensor([7]), 5 * size - 1, 2 * size - 1, 4 * size, torch.float32)
    assert chunks == [1, 2, 3]


def test_cost_and_name() -> None:
    assert (RELATIVE.passes, PUBLISHED.passes) == (5.0, 3.0)
    assert RELATIVE.label == "weight noise, 2 x both signs, rho 0.3"
    assert PUBLISHED.label == "weight noise, 2 x one sign, sigma 0.05"
