"""Text of several models by draws that may be secret, and what a bound on its tokens costs.

Two schemes bound them. *Private prediction* (Amin et al. 2024, arXiv 2407.12108): teachers of
disjoint parts move a public model's log-probabilities by their clipped differences to it, averaged,
and the next token is drawn from that (the exponential mechanism). *CP-Delta* (Vyas, Kakade and
Barak 2023, arXiv 2302.10870): the next token is drawn from the smaller of two teachers'
probabilities, normalised. A third bounds nothing: the mean of the models' probabilities.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from datamodules.encoding import EncodedRecord
from kdmodules.sampling.generation_batches import Vocabulary, cut_at_end, in_buckets
from kdmodules.sampling.joint_decoding import decode_jointly
from kdmodules.sampling.keyed_choice import (
    RandomScope,
    choice_by,
    keyed_choice,
    secret_uniforms,
    uniforms_of_choice,
)
from kdmodules.sampling.sampler import GeneratedResponse, SamplingSettings

Scheme = Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]
"""From models' logits, each float32 [B, V], to scores of the next token, [B, V], and what drawing
from softmax(scores) costs, [B]."""


@dataclass(frozen=True, slots=True)
class PaidResponse(GeneratedResponse):
    """A response, and the sum of what its tokens cost by the scheme that drew them."""

    cost: float


def clipped_mean_scores(logits: Sequence[Tensor], clip: float, temperature: float) -> Tensor:
    """Return (phi_0 + mean_i clip_C(phi_i - phi_0)) / tau, phi log-probabilities, [B, V].

    Args:
        logits: Of the public model, then of each teacher; floating [B, V] over valid tokens alone.
        clip: C, in nats.
        temperature: tau.
    """
    public, *teachers = (of_model.log_softmax(dim=-1) for of_model in logits)
    moved = torch.zeros_like(public)
    for teacher in teachers:
        moved += (teacher - public).clamp(min=-clip, max=clip)
    return (public + moved / len(teachers)) / temperature


def smaller_of_two(logits: Sequence[Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """Return log min(p1, p2), [B, V], and -log(1 - TV(p1, p2)), [B], in nats.

    The minimum's mass is 1 - TV, so that the normalised minimum exceeds neither distribution by
    more than a factor 1 / (1 - TV).

    Args:
        logits: Of two models; floating [B, V] over valid tokens alone.
        temperature: Divides both models' logits.
    """
    first, second = ((of_model / temperature).log_softmax(dim=-1) for of_model in logits)
    smaller = torch.minimum(first, second)
    return smaller, (-smaller.logsumexp(dim=-1)).clamp(min=0.0)


def mean_of_models(logits: Sequence[Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """Return the log of the sum of the models' probabilities, [B, V], and a cost of 0, [B].

    Its softmax is the mean of their probabilities.

    Text as the models would write it: nothing is bounded a token, whatever the draws.

    Args:
        logits: Of each model; floating [B, V] over valid tokens alone.
        temperature: Divides all models' logits.
    """
    each = torch.stack([(of_model / temperature).log_softmax(dim=-1) for of_model in logits])
    return each.logsumexp(dim=0), logits[0].new_zeros(len(logits[0]))


def paid_responses(
    models: Sequence[PreTrainedModel],
    encoded: Sequence[EncodedRecord],
    scheme: Scheme,
    settings: SamplingSettings,
    vocabulary: Vocabulary,
    draws: RandomScope | None,
    batch_size: int = 32,
    synced_gpus: bool = False,
) -> list[PaidResponse]:
    """Sample a response to every record's prompt, in batches of prompts of similar length.

    Args:
        models: What the scheme reads, in its order, with one vocabulary, on one device.
        encoded: Records; only their prompts are read.
        scheme: What the next token is drawn from, over all valid tokens.
        settings: Its longest response and precision are read.
        vocabulary: Valid tokens, end and padding.
        draws: What the random numbers depend on besides the record id; None takes them from the
            operating system.
        batch_size: Most prompts in a batch.
        synced_gpus: Every rank makes the same number of model calls, with records of its own.

    Returns:
        One response per record, in the order given.

    Raises:
        UserError: If a prompt and the new tokens exceed a window, or a next-token distribution is
            not finite.
    """
    device, new_tokens = models[0].device, settings.max_new_tokens

    def run(prompts: list[Sequence[int]], names: list[str]) -> list[PaidResponse]:
        keys = None if draws is None else draws.keys(names, device)
        kept: list[Tensor] = []

        def choose(logits: list[Tensor], position: int) -> Tensor:
            scores, cost = scheme(logits)
            kept.append(cost)
            if keys is not None:
                return keyed_choice(scores, keys, stream=position)
            numbers = secret_uniforms(len(names), uniforms_of_choice(scores), device)
            return choice_by(numbers, scores)

        tokens = decode_jointly(
            models, prompts, names, choose, vocabulary, new_tokens, settings.bfloat16, synced_gpus
        )
        costs = torch.stack(kept, dim=1).double().cpu()  # [B, steps]
        responses = []
        for row, (name, drawn) in enumerate(zip(names, tokens.tolist(), strict=True)):
            token_ids, ended = cut_at_end(drawn, vocabulary.ends)
            cost = float(costs[row, : len(token_ids)].sum())
            responses.append(PaidResponse(name, token_ids, ended, cost))
        return responses

    return in_buckets(
        run, encoded, new_tokens, vocabulary.pad_id, device, batch_size, synced=synced_gpus
    )
