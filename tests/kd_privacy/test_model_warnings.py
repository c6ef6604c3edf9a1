"""What is said of models that a caller hands over."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from kd_privacy.model_warnings import model_warnings


def model(vocabulary: int = 40) -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, n_embd=8, n_layer=1, n_head=1))


def test_models_that_read_alike_in_float32_are_not_warned_of() -> None:
    assert model_warnings(model(), {"base": model(), "control": "a/folder"}) == []


def test_a_reference_of_few_bits_is_named() -> None:
    (told,) = model_warnings(model(), {"base": model().to(torch.bfloat16)})
    assert told.startswith("the reference 'base' computes in bfloat16")


def test_a_reference_with_another_vocabulary_is_named() -> None:
    (told,) = model_warnings(model(), {"base": model(48)})
    assert told.startswith("the reference 'base' has a vocabulary of 48, the model one of 40")
