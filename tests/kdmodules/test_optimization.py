"""The optimiser's groups and the learning-rate schedule."""

import math

import pytest
import torch
from transformers import PreTrainedModel

from common.errors import UserError
from kdmodules.optimization import (
    OptimizerSettings,
    build_optimizer,
    build_schedule,
    keyed_by_model,
)


def rates(settings: OptimizerSettings, steps: int) -> list[float]:
    optimizer = build_optimizer(torch.nn.Linear(2, 2), settings)
    schedule = build_schedule(optimizer, settings, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_biases_and_norms_do_not_decay(family_model: PreTrainedModel) -> None:
    groups = build_optimizer(family_model, OptimizerSettings(weight_decay=0.1)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    seen = 0
    for module in family_model.modules():
        is_norm = "Norm" in type(module).__name__
        for name, parameter in module.named_parameters(recurse=False):
            assert decay[id(parameter)] == (0.0 if is_norm or name == "bias" else 0.1)
            seen += 1
    assert seen >= len(decay)


def test_frozen_parameters_are_left_out() -> None:
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    groups = build_optimizer(model, OptimizerSettings()).param_groups
    assert [len(group["params"]) for group in groups] == [1]


def test_cosine_with_warmup() -> None:
    settings = OptimizerSettings(lr=1.0, final_lr=0.1, warmup_steps=4)
    found = rates(settings, 12)
    ramp = [0.25, 0.5, 0.75, 1.0]
    cosine = [0.1 + 0.9 * (1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)]
    assert found == pytest.approx(ramp + cosine)


def test_constant() -> None:
    assert rates(OptimizerSettings(lr=0.5, schedule="constant"), 5) == [0.5] * 5


def test_warmup_longer_than_the_run_is_refused() -> None:
    with pytest.raises(UserError, match="warmup_steps is 100 but the run has 20"):
        rates(OptimizerSettings(warmup_steps=100), 20)


def test_a_state_is_numbered_by_the_models_order_and_loads_into_the_same_optimiser() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    model[0].weight.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizerSettings())
    model(torch.ones(1, 2)).square().sum().backward()
    optimizer.step()
    numbered = keyed_by_model(optimizer.state_dict(), optimizer, model)
    for number, parameter in enumerate(model.parameters()):
        if parameter.requires_grad:
            assert numbered["state"][number]["exp_avg"].equal(optimizer.state[parameter]["exp_avg"])
    assert sorted(numbered["state"]) == [1, 2, 3]  # number 0 is frozen
    fresh = build_optimizer(model, OptimizerSettings())
    fresh.load_state_dict(numbered)
    for parameter, moments in optimizer.state.items():
        assert fresh.state[parameter]["exp_avg"].equal(moments["exp_avg"])
    again = keyed_by_model(numbered, optimizer, model)
    assert again["param_groups"] == numbered["param_groups"]
