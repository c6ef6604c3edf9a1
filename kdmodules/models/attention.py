"""Which implementation of attention a model is built with."""

from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.auto_factory import _get_model_class


def attention_implementation(config: PreTrainedConfig) -> str:
    """Returns PyTorch's fused attention, or the plain one where the architecture forbids it.

    Gemma 2 caps the products of queries and keys and GPT-OSS adds a sink to them, neither of which
    the fused form does.

    >>> from transformers import Gemma2Config, GPT2Config
    >>> attention_implementation(GPT2Config()), attention_implementation(Gemma2Config())
    ('sdpa', 'eager')
    """
    model_class = _get_model_class(config, AutoModelForCausalLM._model_mapping)
    return "sdpa" if model_class._supports_sdpa else "eager"
