"""A stranger's records and tiny models of random weights, with the tokenizer that fits them."""

import json
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from datamodules.synthetic import generate_records
from kdmodules.models.architectures import config_class, new_model

SIZES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512},
    "opt": {
        "hidden_size": 32,
        "word_embed_proj_dim": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "ffn_dim": 64,
        "max_position_embeddings": 512,
    },
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
    },
}


def rows(seed: int, n: int = 16) -> list[dict[str, str]]:
    """Instruction rows of people, one of which has no response."""
    records = generate_records(n, seed)
    return [
        {
            "instruction": record.instruction,
            "context": record.context,
            "response": record.response if index else "",
            "category": record.task,
            "id": f"person{index}@{seed}.example.org",
        }
        for index, record in enumerate(records)
    ]


MEMBERS, NONMEMBERS = rows(1), rows(2)


def tiny(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A model with random weights, large enough that it does more than guess among all tokens."""
    torch.manual_seed(3)
    ids = {f"{name}_token_id": tokenizer.eos_token_id for name in ("bos", "eos", "pad")}
    config = config_class(family)(vocab_size=len(tokenizer), **ids, **SIZES[family])
    return new_model(config)


def write(path: Path, side: list[dict[str, str]]) -> Path:
    """Writes rows as lines of JSON; returns the file."""
    path.write_text("\n".join(map(json.dumps, side)), encoding="utf-8")
    return path
