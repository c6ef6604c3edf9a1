"""Responses of a teacher ensemble: each token comes from its members' averaged probabilities.

The ensemble is one model whose next-token distribution is the mean of its members' on the same
prefix, as the objectives see it (`losses/reduction.py`). Drawing a member per sequence would be
another model: there the prefix tells which member is speaking.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from common.errors import UserError
from datamodules.encoding import EncodedRecord
from kdmodules.sampling.generation_batches import Vocabulary, in_buckets
from kdmodules.sampling.joint_decoding import decode_jointly, log_mixture
from kdmodules.sampling.keyed_choice import RandomScope, keyed_choice, sampling_scores
from kdmodules.sampling.sampler import (
    GeneratedResponse,
    SamplingSettings,
    generate_responses,
    generated,
)


def ensemble_responses(
    models: Sequence[PreTrainedModel],
    encoded: Sequence[EncodedRecord],
    settings: SamplingSettings,
    vocabulary: Vocabulary,
    scope: RandomScope,
    batch_size: int = 32,
    synced_gpus: bool = False,
) -> list[GeneratedResponse]:
    """Decode a response to every record's prompt, in batches of prompts of similar length.

    Args:
        models: The members, with one vocabulary, on one device; one alone decodes by `generate`.
        encoded: Records; only their prompts are read.
        settings: How to decode. The temperature divides each member's logits before the average, as
            it does in the objectives; top-k and top-p cut the average.
        vocabulary: Valid tokens, end and padding.
        scope: What the random numbers depend on besides the record id.
        batch_size: Most prompts in a batch.
        synced_gpus: Every rank makes the same number of model calls, with records of its own.

    Returns:
        One response per record, in the order given. What a record samples depends on `scope` and
        its id alone, up to the rounding of the logits.

    Raises:
        UserError: If several models are to search with beams, a prompt and the new tokens exceed a
            window, or a next-token distribution is not finite.
    """
    if len(models) == 1:
        (model,) = models
        return generate_responses(
            model, encoded, settings, vocabulary, scope, batch_size, synced_gpus=synced_gpus
        )
    if settings.decoding == "beam":
        raise UserError(
            f"beam search decodes one teacher, model.teacher names {len(models)}: choose "
            "decoding sample or greedy for model.responses.sampling"
        )
    device, new_tokens = models[0].device, settings.max_new_tokens
    shares = [1 / len(models)] * len(models)

    def run(prompts: list[Sequence[int]], names: list[str]) -> list[GeneratedResponse]:
        keys = scope.keys(names, device)

        def choose(logits: list[Tensor], position: int) -> Tensor:
            if settings.decoding == "greedy":
                peak, choice = log_mixture(logits, shares, temperature=1.0).max(dim=-1)
                return torch.where(peak.isfinite(), choice, torch.full_like(choice, -1))
            mixed = log_mixture(logits, shares, settings.temperature)
            allowed = sampling_scores(mixed, 1.0, settings.top_p, settings.top_k)
            return keyed_choice(allowed, keys, stream=position)

        tokens = decode_jointly(
            models, prompts, names, choose, vocabulary, new_tokens, settings.bfloat16, synced_gpus
        )
        return generated(names, tokens, vocabulary)

    return in_buckets(
        run, encoded, new_tokens, vocabulary.pad_id, device, batch_size, synced=synced_gpus
    )
