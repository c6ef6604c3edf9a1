"""Hooks see what Hugging Face sees, on every kind of model, and none is ever left."""

import pytest
import torch
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from audits.blocks.recorder import BlockCall, transformer_blocks, watching
from common.errors import UserError
from tests.audits.blocks.conftest import unchanged

IDS = torch.tensor([[5, 9, 2, 7, 11, 3]])


def test_sees_every_block_in_order(any_model: PreTrainedModel) -> None:
    seen: list[tuple[int, Tensor, Tensor]] = []
    with torch.no_grad():
        # Outside: Transformers' own hooks for this stay on the model.
        expected = any_model(IDS, output_hidden_states=True).hidden_states
    with torch.no_grad(), unchanged(any_model):
        with watching(any_model, lambda block, call, out: seen.append((block, call.hidden, out))):
            any_model(IDS)
    assert [block for block, _, _ in seen] == [0, 1]
    for block, entered, left in seen:
        torch.testing.assert_close(entered, expected[block])
        if block == 0:
            torch.testing.assert_close(left, expected[1])


def test_works_in_training_too(any_model: PreTrainedModel) -> None:
    seen: list[int] = []
    any_model.train()
    with unchanged(any_model), watching(any_model, lambda block, call, out: seen.append(block)):
        any_model(IDS, use_cache=False)
    assert seen == [0, 1]


@pytest.mark.parametrize("failure", [RuntimeError("in a hook"), KeyboardInterrupt()])
def test_no_hook_stays_after_a_failure(any_model: PreTrainedModel, failure: BaseException) -> None:
    def hook(block: int, call: BlockCall, output: Tensor) -> None:
        if block == 1:
            raise failure

    with unchanged(any_model), pytest.raises(type(failure)), watching(any_model, hook):
        any_model(IDS)


def test_no_hook_stays_when_the_model_or_the_registration_fails(
    any_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unchanged(any_model), pytest.raises(IndexError), watching(any_model, lambda *a: None):
        any_model(torch.tensor([[10**6]]))
    last = transformer_blocks(any_model)[-1]

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no hook here")

    with unchanged(any_model):
        monkeypatch.setattr(last, "register_forward_hook", refuse)
        with (
            pytest.raises(RuntimeError, match="no hook here"),
            watching(any_model, lambda *a: None),
        ):
            any_model(IDS)
        monkeypatch.undo()


def test_a_returned_tensor_takes_the_place_of_the_output(any_model: PreTrainedModel) -> None:
    entered: list[Tensor] = []

    def hook(block: int, call: BlockCall, output: Tensor) -> Tensor | None:
        entered.append(call.hidden)
        return torch.zeros_like(output) if block == 0 else None

    with torch.no_grad(), unchanged(any_model), watching(any_model, hook):
        any_model(IDS)
    assert not entered[1].any()
    assert entered[0].any()


def test_an_unknown_structure_is_refused_with_the_recipe() -> None:
    config = GPTNeoXConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config)
    model.config.model_type = "of a kind of its own"
    with pytest.raises(UserError) as refused:
        transformer_blocks(model)
    text = str(refused.value)
    for part in ("GPTNeoXForCausalLM", "transformer.h", "model.decoder.layers", "model.norm"):
        assert part in text
    assert "FAMILIES in kdmodules/models/families.py" in text
    assert "blocks='path" in text
    assert "\n" not in text


def test_a_block_that_returns_more_than_a_tensor_is_refused(
    any_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = transformer_blocks(any_model)[0]
    forward = block.forward
    monkeypatch.setattr(block, "forward", lambda *a, **k: (forward(*a, **k), None))
    with pytest.raises(UserError, match="block 0 .* does not map one tensor to one"):
        with watching(any_model, lambda *a: None):
            any_model(IDS)
