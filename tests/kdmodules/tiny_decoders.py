"""Random models of two blocks of every architecture that is discovered, not known by name."""

from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from kdmodules.models.architectures import new_model

_IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
_LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_WINDOW = {"sliding_window": 4}

DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", _SIZES),
    "qwen3": ("qwen3", {**_SIZES, "head_dim": 8}),
    "qwen3_moe": (
        "qwen3_moe",
        {**_SIZES, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
    "mistral": ("mistral", {**_SIZES, **_WINDOW}),
    "gemma2": (
        "gemma2",
        {**_SIZES, **_WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8}
        | {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0},
    ),
    "gemma3_text": (
        "gemma3_text",
        {**_SIZES, **_WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8},
    ),
    "phi3": ("phi3", _SIZES),
    "phi": ("phi", _SIZES),
    "gpt_neox": ("gpt_neox", _SIZES),
    "gpt_neo": (
        "gpt_neo",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 48}
        | {"max_position_embeddings": 128, "window_size": 4}
        | {"attention_types": [[["global", "local"], 1]]},
    ),
    "olmo2": ("olmo2", _SIZES),
    "granite": ("granite", {**_SIZES, "logits_scaling": 3.0, "embedding_multiplier": 2.0}),
    "cohere": ("cohere", {**_SIZES, "logit_scale": 0.3}),
    "falcon": ("falcon", {**_SIZES, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "stablelm": ("stablelm", _SIZES),
    "smollm3": ("smollm3", {**_SIZES, "no_rope_layer_interval": 2}),
    "llama 3 rope": ("llama", {**_SIZES, "rope_parameters": _LLAMA_3_ROPE}),
}


def tiny_decoder(
    kind: str, vocabulary_size: int = 97, seed: int = 0, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """Builds one in evaluation mode, its norms and biases not at their trivial start."""
    model_type, options = DECODERS[kind]
    config = AutoConfig.for_model(model_type, vocab_size=vocabulary_size, **options, **_IDS)
    torch.manual_seed(seed)
    model = new_model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model.to(dtype)
