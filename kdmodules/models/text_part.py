"""The language model inside one that reads images too."""

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from kdmodules.models.architectures import new_model


def text_part(model: PreTrainedModel) -> PreTrainedModel:
    """Returns the causal language model of a model that reads images too.

    Args:
        model: As ``has_text_part`` knows it.

    Returns:
        A plain model that shares the tensors of ``model``, with nothing of its eyes.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    config = copy.deepcopy(model.config.get_text_config(decoder=True))
    config.tie_word_embeddings = head.weight is model.get_input_embeddings().weight
    with torch.device("meta"):
        text = new_model(config, model.dtype)
    trunk = text.base_model
    _take(trunk, decoder)
    _take(text.get_output_embeddings(), head)
    text.tie_weights()
    return text.train(model.training)


def _take(target: nn.Module, source: nn.Module) -> None:
    target.load_state_dict(source.state_dict(), assign=True)
    for name, buffer in source.named_buffers():
        owner, _, leaf = name.rpartition(".")
        setattr(target.get_submodule(owner), leaf, buffer)
