"""A context around tiny random models, and records whose ids the 300-token vocabulary has."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from datamodules.batches import EncodedRecord, InstructionBatch, RecordEncoder, collate
from datamodules.prompts import PromptTemplate
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, build_network
from kdmodules.responses import ResponseContext
from tests.kdmodules.conftest import TINY

MakeContext = Callable[..., ResponseContext]


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> RecordEncoder:
    """Windows of 100 prompt tokens and 112 in all."""
    template = PromptTemplate("{instruction} {context}", "{instruction}")
    return RecordEncoder(tokenizer, template, max_prompt_tokens=100, max_tokens=112)


def random_records(count: int, seed: int = 0) -> list[EncodedRecord]:
    """Records r0, r1, ... with prompts of 3 to 9 tokens and responses of 2 tokens and eos."""
    draw = np.random.default_rng(seed)
    records = []
    for index in range(count):
        prompt = tuple(draw.integers(3, 299, size=3 + index % 7).tolist())
        response = (*draw.integers(3, 299, size=2).tolist(), 0)
        records.append(EncodedRecord(f"r{index}", "open_qa", prompt, response, False, False))
    return records


def tiny(tokenizer: PreTrainedTokenizerFast, seed: int, family: str = "gpt2") -> CausalLM:
    """A tiny model whose distributions are uneven: its weights are scaled up."""
    torch.set_num_threads(1)
    model = build_network(Network(family, None, TINY[family]), tokenizer, seed=seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    return CausalLM(model.requires_grad_(True), len(tokenizer))


@pytest.fixture
def make_context(
    tokenizer: PreTrainedTokenizerFast, encoder: RecordEncoder, tmp_path: Path
) -> MakeContext:
    """Builds contexts that share one student, one teacher and one folder."""
    student, teacher = tiny(tokenizer, 1), tiny(tokenizer, 2)

    def make(
        records: list[EncodedRecord],
        step: int = 0,
        total_steps: int = 100,
        micro_batch: int = 0,
        accumulate: int = 1,
        global_batch: int = 4,
        teachers: tuple[CausalLM, ...] | None = None,
        seed: int = 0,
    ) -> ResponseContext:
        return ResponseContext(
            student=student,
            teachers=(teacher,) if teachers is None else teachers,
            encoder=encoder,
            records=records,
            private_folder=tmp_path / "private",
            step=step,
            total_steps=total_steps,
            epoch=0,
            micro_batch=micro_batch,
            accumulate=accumulate,
            global_batch=global_batch,
            seed=seed,
            rank=0,
            world_size=1,
        )

    return make


def batch_of(records: list[EncodedRecord]) -> InstructionBatch:
    """A right-padded batch with padding 1, which is a real token elsewhere."""
    return collate(records, pad_id=1)


def scored(batch: InstructionBatch) -> dict[str, tuple[int, ...]]:
    """What is scored of each record: ids by record."""
    return {
        name: tuple(batch.input_ids[row][batch.response_mask[row]].tolist())
        for row, name in enumerate(batch.record_ids)
    }


def prompts(batch: InstructionBatch) -> list[tuple[int, ...]]:
    """What precedes the scored tokens of each row."""
    kept = batch.attention_mask.bool() & ~batch.response_mask
    return [tuple(batch.input_ids[row][kept[row]].tolist()) for row in range(len(kept))]
