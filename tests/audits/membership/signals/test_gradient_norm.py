"""Gradient norms equal backward passes in float64, and leave the model as it was."""

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.membership.signals import GradientNorm
from common.errors import UserError
from datamodules.records import InstructionRecord
from kdmodules.models.adapters import Adapter, add_adapter
from tests.audits.membership.signals.conftest import access_of, mean_nll
from tests.kdmodules.conftest import one_family

Model = PreTrainedModel
Tokenizer = PreTrainedTokenizerFast
Records = list[InstructionRecord]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_equals_backward_in_float64(
    family_model: Model, tokenizer: Tokenizer, records: Records, p: float
) -> None:
    access = access_of(family_model, tokenizer)
    encoded = access.encoder.encode_all(records)
    found = GradientNorm(p).measure(access, encoded)
    exact = family_model.double()
    expected = []
    for one in encoded:
        exact.zero_grad()
        mean_nll(exact, one, len(tokenizer)).backward()
        gradients = [parameter.grad for parameter in exact.parameters()]
        norms = [float((g.abs() ** p).sum() ** (1 / p)) for g in gradients if g is not None]
        assert len(norms) == len(gradients)
        expected.append([sum(norms) / len(norms)])
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-5, atol=1e-7)


@one_family
def test_order_changes_nothing(family_model: Model, tokenizer: Tokenizer, records: Records) -> None:
    access = access_of(family_model, tokenizer)
    encoded = access.encoder.encode_all(records)
    found = GradientNorm().measure(access, encoded)
    assert torch.equal(GradientNorm().measure(access, encoded[::-1]), found.flip(0))


@one_family
def test_frozen_tensors_count_and_the_model_is_left_alone(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    access = access_of(family_model, tokenizer)
    encoded = access.encoder.encode_all(records)
    whole = GradientNorm().measure(access, encoded)
    first, *others = family_model.parameters()
    first.requires_grad_(False)
    others[0].grad = torch.full_like(others[0], 7.0)
    weights = {name: value.clone() for name, value in family_model.state_dict().items()}
    with torch.inference_mode():
        assert torch.equal(GradientNorm().measure(access, encoded), whole)
    assert not first.requires_grad
    assert all(parameter.requires_grad for parameter in others)
    assert bool((others[0].grad == 7).all())
    assert all(parameter.grad is None for parameter in [first, *others[1:]])
    assert not family_model.training
    assert all(torch.equal(weights[name], v) for name, v in family_model.state_dict().items())


def test_an_adapter_and_its_frozen_base_both_count(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    add_adapter(family_model, Adapter(r=2, alpha=4, dropout=0.5), seed=0)
    access = access_of(family_model, tokenizer)
    encoded = access.encoder.encode_all(records[:2])
    trained = {name for name, one in family_model.named_parameters() if one.requires_grad}
    found = GradientNorm().measure(access, encoded)
    assert {name for name, one in family_model.named_parameters() if one.requires_grad} == trained
    family_model.requires_grad_(True)
    for row, one in zip(found.flatten().tolist(), encoded, strict=True):
        gradients = torch.autograd.grad(
            mean_nll(family_model, one, len(tokenizer)), list(family_model.parameters())
        )
        expected = sum(float(gradient.double().norm()) for gradient in gradients) / len(gradients)
        assert row == pytest.approx(expected, rel=1e-5)


@one_family
def test_modes_come_back_after_an_error(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    access = access_of(family_model, tokenizer)
    family_model.requires_grad_(False)
    with torch.no_grad():
        next(family_model.parameters())[0] = torch.nan
    encoded = access.encoder.encode_all(records)
    unlucky = [replace(one, prompt_ids=(0,), response_ids=(0, 0)) for one in encoded[:1]]
    with pytest.raises(FloatingPointError, match="r0"):
        GradientNorm().measure(access, unlucky)
    assert not any(parameter.requires_grad for parameter in family_model.parameters())


@one_family
def test_half_precision_weights_are_refused(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    access = access_of(family_model.bfloat16(), tokenizer)
    encoded = access.encoder.encode_all(records)
    with pytest.raises(UserError, match=r"needs float32 weights and .* is torch.bfloat16"):
        GradientNorm().measure(access, encoded)


@one_family
def test_autocast_does_not_reach_the_gradient(
    family_model: Model, tokenizer: Tokenizer, records: Records
) -> None:
    access = access_of(family_model, tokenizer)
    encoded = access.encoder.encode_all(records)
    found = GradientNorm().measure(access, encoded)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(GradientNorm().measure(access, encoded), found)
