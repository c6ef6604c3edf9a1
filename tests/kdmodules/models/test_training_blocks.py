"""Recomputed and compiled blocks: the numbers of plain ones, and only within a training step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, build_network
from kdmodules.models.training_blocks import prepare_blocks
from tests.kdmodules.conftest import TINY

DROPOUT = {
    "gpt2": {"resid_pdrop": 0.2, "attn_pdrop": 0.0},
    "opt": {"dropout": 0.2, "attention_dropout": 0.0},
    "llama": {},
}
IDS = torch.arange(36).view(2, 18) % 29


def make_model(family: str, tokenizer: PreTrainedTokenizerFast) -> CausalLM:
    network = Network(family, None, TINY[family] | DROPOUT[family])
    return CausalLM(build_network(network, tokenizer, seed=1), 300)


def step(lm: CausalLM, dropout: bool = True) -> tuple[Tensor, dict[str, Tensor], int]:
    """One step's loss, its gradients, and the numbers that autograd kept for them."""
    kept: list[int] = []
    torch.manual_seed(3)
    lm.zero_grad()
    with (
        torch.autograd.graph.saved_tensors_hooks(
            lambda value: kept.append(value.numel()) or value, lambda value: value
        ),
        lm.in_step(dropout),
    ):
        loss = lm.states(IDS, torch.ones_like(IDS)).square().mean()
    # Modes are back by now, as in a fit, where the backward pass comes after the step.
    assert lm.training
    loss.backward()
    trained = [(name, one) for name, one in lm.named_parameters() if one.grad is not None]
    found = {name: one.grad.clone() for name, one in trained}
    assert len(found) > 10
    return loss.detach(), found, sum(kept)


@pytest.mark.parametrize("dropout", [True, False], ids=["dropout", "evaluation mode"])
@pytest.mark.parametrize("family", sorted(TINY))
def test_recomputed_blocks_keep_less_and_change_nothing(
    family: str, dropout: bool, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = make_model(family, tokenizer)
    loss, gradients, kept = step(model, dropout)
    prepare_blocks(model, recomputed=True, compiled=False)
    again, recomputed, kept_now = step(model, dropout)
    assert torch.equal(again, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(recomputed[name], gradient, atol=0, rtol=0)
    assert kept_now < kept / 2


@pytest.mark.parametrize(
    "tracing", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["stand-in", "dynamo"]
)
def test_compiled_blocks_train_and_plain_ones_evaluate(
    tracing: bool, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama", tokenizer)
    loss, gradients, _ = step(model)
    ran: list[str] = []

    def counted(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: ran.append("compiled") or run(*args, **kwargs)

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        return counted(graph.forward)

    if not tracing:
        monkeypatch.setattr(torch, "compile", lambda run, backend: counted(run))
    names = list(model.state_dict())
    prepare_blocks(model, recomputed=True, compiled=True, backend=backend)
    assert list(model.state_dict()) == names
    hooked: list[int] = []
    handle = transformer_blocks(model.model)[0].register_forward_hook(lambda *_: hooked.append(1))
    again, compiled, _ = step(model)
    assert len(ran) >= len(transformer_blocks(model.model))
    assert hooked == [1]
    torch.testing.assert_close(again, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled[name], gradient)
    ran.clear()
    # Whatever its mode: what reads a model in training mode is no step either.
    for lm in (model, model.eval()):
        with torch.no_grad():
            lm.states(IDS, torch.ones_like(IDS))
    handle.remove()
    assert not ran
    assert hooked == [1, 1, 1]
