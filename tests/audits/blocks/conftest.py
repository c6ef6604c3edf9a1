"""Models of every kind that blocks are read of, and what must never be left behind on one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.blocks.signals import BlockAccess
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from datamodules.batches import InstructionBatch, collate
from datamodules.records import InstructionRecord
from kdmodules.models.adapters import Adapter, add_adapter
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, build_network
from tests.audits.membership.signals.conftest import (
    RESPONSES,
    Planted,
    access_of,
    planted,
    record,
    silent,
)
from tests.kdmodules.conftest import TINY
from tests.kdmodules.tiny_decoders import tiny_decoder

__all__ = ["Planted", "access_of", "planted", "record", "silent"]

KINDS = (
    *("gpt2", "opt", "lora", "checkpointed", "falcon"),
    pytest.param("llama", marks=pytest.mark.slow),
)


@pytest.fixture(params=KINDS)
def any_model(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """Every family (OPT's embeddings projected, GPT-2's tied), an adapter, checkpointing, and one
    that is discovered, whose blocks return tuples.
    """
    if request.param == "falcon":
        return tiny_decoder("falcon", len(tokenizer))
    model = tiny(request.param if request.param in TINY else "gpt2", tokenizer)
    if request.param == "lora":
        add_adapter(model, Adapter(r=2, alpha=4), seed=0)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
    if request.param == "checkpointed":
        model.gradient_checkpointing_enable()
    return model.eval()


def tiny(family: str, tokenizer: PreTrainedTokenizerFast, seed: int = 1) -> PreTrainedModel:
    """A random model of two blocks, its norms and biases not at their trivial start."""
    model = build_network(Network(family, None, TINY[family]), tokenizer, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return model


@pytest.fixture
def few_records() -> list[InstructionRecord]:
    """A short, a long, a one-token and an awkward response."""
    return [record(i, f"the cat {i}", RESPONSES[i]) for i in range(4)]


def no_reference(name: str) -> ReferenceModel:
    """There is none."""
    raise AssertionError(f"reference {name} was asked for")


def block_access(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    batch_size: int = 8,
    load_reference: Callable[[str], ReferenceModel] = no_reference,
) -> BlockAccess:
    """Access to a model without references."""
    return BlockAccess(access_of(model, tokenizer, batch_size), load_reference)


def batch_of(access: ModelAccess, records: list[InstructionRecord]) -> InstructionBatch:
    """All records in one batch."""
    return collate(access.encoder.encode_all(records), access.encoder.pad_id)


def plain_log_likelihoods(lm: CausalLM, batch: InstructionBatch) -> Tensor:
    """Mean log-probability of every response by the plain Hugging Face model."""
    logits = lm.model(batch.input_ids, attention_mask=batch.attention_mask).logits
    logp = logits[:, :-1, : lm.vocabulary_size].log_softmax(-1)
    own = logp.gather(2, batch.input_ids[:, 1:, None])[..., 0]
    mask = batch.response_mask[:, 1:]
    return torch.stack([row[kept].mean() for row, kept in zip(own, mask, strict=True)]).detach()


@contextmanager
def unchanged(model: PreTrainedModel) -> Iterator[None]:
    """Checks that a model has the same hooks, weights and modes afterwards, to the bit."""
    before = _state(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        yield
    finally:
        assert _state(model) == before
        for name, value in model.state_dict().items():
            assert torch.equal(weights[name], value), name


def _state(model: PreTrainedModel) -> list[object]:
    hooks = [
        (name, kind, tuple(getattr(module, kind)))
        for name, module in model.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    ]
    parameters = [
        (name, one.data_ptr(), one.requires_grad, one.grad is None)
        for name, one in model.named_parameters()
    ]
    return [hooks, parameters, [module.training for module in model.modules()]]
