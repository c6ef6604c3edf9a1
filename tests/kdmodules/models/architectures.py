"""Tiny random models of architectures beyond the three families, as somebody else saves them."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

WIDE = {
    **{"num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 48},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128},
}
KINDS: dict[str, dict[str, Any]] = {
    "qwen3": {**WIDE, "head_dim": 16},
    "qwen3_moe": {
        **{**WIDE, "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2},
        **{"moe_intermediate_size": 24, "decoder_sparse_step": 1, "mlp_only_layers": []},
    },
    "gemma2": {**WIDE, "head_dim": 8, "sliding_window": 4},
    "gemma3_text": {**WIDE, "head_dim": 8, "sliding_window": 4, "layer_types": None},
    "smollm3": {**WIDE, "no_rope_layers": [1, 0, 0, 1]},
    "gpt_neox": {**WIDE, "num_key_value_heads": None},
    **{kind: WIDE for kind in ("qwen2", "phi3", "phi", "olmo2", "granite", "cohere", "stablelm")},
    "mistral": {**WIDE, "head_dim": 8, "sliding_window": 4},
    "falcon": {**WIDE, "num_kv_heads": 2, "new_decoder_architecture": True},
    "gpt_neo": {
        **{"num_layers": 4, "hidden_size": 32, "num_heads": 4, "max_position_embeddings": 128},
        **{"attention_types": [[["global", "local"], 2]], "window_size": 4},
    },
    "llama": {
        **WIDE,
        "rope_parameters": {
            **{"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0},
            **{"high_freq_factor": 4.0, "original_max_position_embeddings": 16},
        },
    },
}
TOKENS = torch.arange(24).reshape(2, 12) * 7 % 300


def random_model(kind: str, vocabulary: int, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A model of an architecture, in evaluation mode."""
    ids = {"pad_token_id": None, "bos_token_id": 0, "eos_token_id": 0}
    options = {"vocab_size": vocabulary, **ids, **KINDS[kind], **changes}
    config = AutoConfig.for_model(kind, **options)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def saved(
    kind: str, tokenizer: PreTrainedTokenizerBase, folder: Path, **changes: Any
) -> PreTrainedModel:
    """A model and its tokenizer in a folder, as their own libraries write them."""
    model = random_model(kind, len(tokenizer), **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def logits(model: PreTrainedModel) -> torch.Tensor:
    """The model's own logits of a few tokens, in evaluation mode."""
    with torch.no_grad():
        return model.eval()(TOKENS, use_cache=False).logits


def same_weights(ours: PreTrainedModel, theirs: PreTrainedModel) -> bool:
    """Whether two models have the same weights by name."""
    left, right = ours.state_dict(), theirs.state_dict()
    return left.keys() == right.keys() and all(left[n].equal(right[n]) for n in left)
