"""The one entry to a model: its rows are the model's own logits, whatever the padding."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from datamodules.batches import EncodedRecord, collate
from kdmodules.models import anatomy
from kdmodules.models.causal_lm import CausalLM

RECORDS = [
    EncodedRecord("a", "open_qa", (5, 6, 7), (8, 9, 0), False, False),
    EncodedRecord("b", "open_qa", (11, 12, 13, 14, 15), (0,), False, False),
    EncodedRecord("c", "open_qa", (3,), (4, 4, 4, 4, 17, 21, 0), False, False),
]


def alone(model: PreTrainedModel, record: EncodedRecord) -> torch.Tensor:
    """Log-probabilities of the targets from the plain Hugging Face model, one record at a time."""
    ids = torch.tensor([record.prompt_ids + record.response_ids])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].double()
    n = len(record.prompt_ids)
    rows = logits[n - 1 : -1].log_softmax(-1)
    return rows.gather(1, torch.tensor(record.response_ids)[:, None])[:, 0]


@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_are_the_models_own_predictions(family_model: PreTrainedModel, side: str) -> None:
    lm = CausalLM(family_model, 300)
    batch = collate(RECORDS, pad_id=0, padding_side=side)
    with torch.no_grad():
        logits = lm(lambda m: m.head.logits(m.hidden(batch)))
    found = logits.double().log_softmax(-1).gather(1, batch.targets()[:, None])[:, 0]
    expected = torch.cat([alone(family_model, record) for record in RECORDS])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_places_of_each_family(family_model: PreTrainedModel) -> None:
    blocks = anatomy.transformer_blocks(family_model)
    assert len(blocks) == 2
    captured = []
    handle = blocks[-1].register_forward_hook(lambda _m, _a, out: captured.append(out))
    with torch.no_grad():
        logits = family_model(torch.tensor([[1, 2, 3]])).logits
        handle.remove()
        states = anatomy.head_inputs(family_model, captured[0])
        torch.testing.assert_close(family_model.get_output_embeddings()(states), logits)
    assert anatomy.context_window(family_model) == 128


def test_published_gelu_is_fused_and_stays_itself(tmp_path: Path) -> None:
    config = GPT2Config(
        **{"n_layer": 2, "n_embd": 64, "n_head": 2, "vocab_size": 40, "n_positions": 32},
        **{"bos_token_id": 0, "eos_token_id": 0},
        activation_function="gelu_new",
    )
    plain = GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(8)  # Beyond the range where the function is all but linear.
    fused = CausalLM(copy.deepcopy(plain), 40)
    ids = torch.arange(32)[None]
    direction = torch.randn(1, 32, 64, generator=torch.Generator().manual_seed(1)).double()
    states, kept = [], []
    for run in (
        lambda: plain.transformer(ids, use_cache=False).last_hidden_state,
        lambda: fused.states(ids, torch.ones_like(ids)),
    ):
        seen: dict[int, int] = {}

        def pack(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            states.append(run())
        (states[-1] * direction).sum().backward()
        kept.append(sum(seen.values()))
    torch.testing.assert_close(states[1], states[0], atol=1e-10, rtol=1e-8)
    for own, theirs in zip(fused.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad, atol=1e-8, rtol=1e-6)
    assert kept[0] - kept[1] == 2 * 3 * 32 * 256 * 8, "three tensors [T, 4 D] less in each block"
    fused.model.save_pretrained(tmp_path)
    assert GPT2Config.from_pretrained(tmp_path).activation_function == "gelu_new"
