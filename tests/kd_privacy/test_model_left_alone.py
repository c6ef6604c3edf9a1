"""A model that was handed over is afterwards what it was, and what of it counts is told."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import kd_privacy
from tests.kd_privacy.small_models import MEMBERS, NONMEMBERS, tiny


@contextmanager
def unchanged(model: PreTrainedModel) -> Iterator[None]:
    """Checks that a model, and all random numbers, are afterwards what they were."""

    def state() -> tuple[object, ...]:
        modules = list(model.named_modules())
        return (
            [(name, type(module), module.training) for name, module in modules],
            [
                [len(module._forward_hooks), len(module._forward_pre_hooks)]
                + [len(module._backward_hooks), len(module._backward_pre_hooks)]
                for _, module in modules
            ],
            [(id(one), one.requires_grad, id(one.grad)) for one in model.parameters()],
            model.config.to_dict(),
            model.generation_config.to_dict(),
        )

    before, weights = state(), {name: one.clone() for name, one in model.state_dict().items()}
    drawn = torch.get_rng_state(), random.getstate()
    try:
        yield
    finally:
        assert state() == before
        assert torch.equal(torch.get_rng_state(), drawn[0])
        assert random.getstate() == drawn[1]
        assert all(torch.equal(one, weights[name]) for name, one in model.state_dict().items())


@pytest.fixture
def used(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A GPT-2 in the middle of its owner's work: with modes, a gradient, frozen weights, a hook."""
    model = tiny("gpt2", tokenizer).train()
    model.transformer.h[0].eval()
    model.transformer.wpe.requires_grad_(False)
    model.transformer.ln_f.weight.grad = torch.ones_like(model.transformer.ln_f.weight)
    model.transformer.h[1].register_forward_hook(lambda *_: None)
    return model


def test_a_model_that_was_handed_over_is_as_it_was(
    used: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    other = tiny("gpt2", tokenizer).train()
    attacks, signals = kd_privacy.attacks, kd_privacy.signals
    with unchanged(used), unchanged(other):
        audit = kd_privacy.audit(
            used,
            tokenizer,
            MEMBERS,
            NONMEMBERS,
            attacks=[attacks.Reference(), attacks.GradNorm(), attacks.MoPe()],
            memorization=[kd_privacy.metrics.ExactMatch(0)],
            blocks=[signals.HiddenProbe(), signals.BlockMoPe()],
            reference=other,
            max_records=12,
            template="alpaca",
            progress=False,
        )
    assert audit["grad_norm"].members.scores.shape == (11,)
    assert audit["mope"].auroc.n_nonmembers == 11


def test_a_model_is_as_it_was_after_an_error(
    used: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    nn.init.constant_(used.transformer.ln_f.bias, float("inf"))
    with pytest.raises(FloatingPointError, match="cannot be scored"), unchanged(used):
        kd_privacy.audit(used, tokenizer, MEMBERS, NONMEMBERS, template="alpaca", progress=False)


def test_a_model_of_half_precision_is_told_of(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny("gpt2", tokenizer).to(torch.bfloat16)
    audit = kd_privacy.audit(
        model, tokenizer, MEMBERS, NONMEMBERS, template="alpaca", progress=False
    )
    assert any("the model computes in bfloat16" in warning for warning in audit.warnings)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
