"""Which architectures are causal language models, and how one is built from its configuration."""

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from common.errors import UserError

_OTHER_HEADS = {
    "ForSequenceClassification": "a classifier or reward model",
    "ForTokenClassification": "a tagger or reward model",
    "ForQuestionAnswering": "a reader that marks answers",
    "RewardModel": "a reward model",
    "ForMaskedLM": "a masked language model, which reads in both directions",
}
"""Ends of class names that a configuration gives for models without a next token."""


def config_class(architecture: str) -> type[PreTrainedConfig]:
    """Returns the configuration of an architecture that a network can be made of from scratch.

    Args:
        architecture: The model type of its Hugging Face configuration, such as gpt2 or qwen3.

    Raises:
        UserError: If transformers knows no causal language model of that type.
    """
    found = CONFIG_MAPPING[architecture] if architecture in CONFIG_MAPPING else None
    if found is None or found not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(
            f"model.network.family is {architecture!r}: transformers has no causal language model "
            "of that type; give one such as gpt2, opt, llama or qwen3"
        )
    return found


def new_model(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Builds a causal language model with random weights, as every model here computes.

    Attention is PyTorch's fused one, or plain products where an architecture forbids it.
    """
    return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)


def has_text_part(config: PreTrainedConfig) -> bool:
    """Tells whether a model reads images too and has a causal language model for its texts."""
    text = config.get_text_config(decoder=True)
    both = text is not config and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return both and type(text) in MODEL_FOR_CAUSAL_LM_MAPPING


def require_causal(what: str, config: PreTrainedConfig) -> None:
    """Refuses a stored model that does not predict the next token from those before it.

    Args:
        what: Which model, for the message: "model 'x'".
        config: As it is stored.

    Raises:
        UserError: Saying what it is instead.
    """
    other = _other_kind(config)
    if other is not None:
        raise UserError(
            f"{what} is {other}: give a causal language model, one that predicts the next token "
            "from those before it"
        )


def _other_kind(config: PreTrainedConfig) -> str | None:
    kind = config.model_type
    for name in config.architectures or ():
        for ending, meaning in _OTHER_HEADS.items():
            if name.endswith(ending):
                return f"{meaning} ({name})"
    if config.is_encoder_decoder:
        return f"an encoder-decoder ({kind})"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return f"an encoder alone ({kind}), which reads in both directions"
    text = config.get_text_config(decoder=True)
    if getattr(text, "use_bidirectional_attention", None) is True:
        return f"a model that reads in both directions ({kind})"
    if has_text_part(config):
        return None
    if text is not config:
        return f"of type {kind}, whose text part ({text.model_type}) is no model of its own"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"of type {kind}, of which transformers has no causal language model"
    return None
