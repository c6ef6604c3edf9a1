"""Operations by arithmetic against PyTorch's own count of a model's products."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from datamodules.batches import InstructionBatch
from kdmodules.models.adapters import Adapter, add_adapter
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.flops import ModelCost, PassSize

TOKENS, RECORDS, SCORED = 12, 3, 5


def batch_of(vocabulary: int) -> InstructionBatch:
    ids = torch.randint(vocabulary, (RECORDS, TOKENS))
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, -SCORED:] = True
    names = [str(i) for i in range(RECORDS)]
    return InstructionBatch(ids, torch.ones_like(ids), mask, names, names)


def counted(lm: CausalLM, batch: InstructionBatch, *, backward: bool) -> int:
    with FlopCounterMode(display=False) as counter:
        loss = lm(lambda lm: lm.padded_head.logits(lm.hidden(batch))).sum()
        if backward:
            loss.backward()
    return counter.get_total_flops()


@pytest.fixture
def lm(family_model: PreTrainedModel) -> CausalLM:
    """A model whose attention is two products, which the counter sees on any device."""
    family_model.set_attn_implementation("eager")
    return CausalLM(family_model, 100)


@pytest.mark.parametrize("backward", [False, True])
def test_operations_are_those_that_pytorch_counts(lm: CausalLM, backward: bool) -> None:
    batch = batch_of(100)
    size = PassSize.of(batch)
    assert size == PassSize(RECORDS * TOKENS, RECORDS * TOKENS**2, RECORDS * SCORED)
    cost = ModelCost.of(lm)
    expected = cost.training(size) if backward else cost.forward(size)
    assert counted(lm, batch, backward=backward) == pytest.approx(expected, rel=1e-6)


def test_an_adapter_saves_the_gradients_of_frozen_weights(lm: CausalLM) -> None:
    size = PassSize.of(batch_of(100))
    whole = ModelCost.of(lm)
    assert (whole.trained, whole.head_trained) == (whole.trunk, whole.head)
    add_adapter(lm.model, Adapter(r=2), seed=0)
    cost = ModelCost.of(lm)
    assert cost.trained == cost.trunk - whole.trunk > 0
    assert cost.head_trained == 0
    # The counter leaves out gradients of what the first adapter's layer read; nobody needs them.
    found = counted(lm, batch_of(100), backward=True)
    assert found < cost.training(size) < 1.3 * found < whole.training(size)


def test_padding_is_no_work() -> None:
    batch = batch_of(100)
    attention = batch.attention_mask.clone()
    attention[0, :4] = 0
    padded = InstructionBatch(
        batch.input_ids, attention, batch.response_mask, batch.record_ids, batch.tasks
    )
    assert PassSize.of(padded) == PassSize(32, 8**2 + 2 * 12**2, 15)
