"""Responses of a causal language model to encoded prompts: sampled, greedy or by beam search.

Decoding is transformers' `generate` with its cache. Three things are ours: each record's randomness
is its own (`keyed_choice`), prompts are padded on the left from their lengths, and the end of a
response is the first end-of-sequence token that was *generated*, so that nothing depends on
whether padding shares its id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from common.errors import UserError
from common.options import require_at_least, require_positive
from datamodules.encoding import EncodedRecord
from kdmodules.sampling.generation_batches import (
    Vocabulary,
    check_window,
    cut_at_end,
    in_buckets,
    inference_state,
    left_pad,
    refuse_not_finite,
)
from kdmodules.sampling.keyed_choice import RandomScope, keyed_choice, sampling_scores


@dataclass(frozen=True)
class SamplingSettings:
    """How a response is decoded.

    Attributes:
        decoding: "sample", "greedy" or "beam".
        max_new_tokens: Longest response in tokens, the end-of-sequence token included.
        temperature: Divides the logits; sampling only.
        top_p: Sampling keeps the likeliest tokens up to this mass (Holtzman 2020); 1 keeps all.
        top_k: Sampling keeps this many of the likeliest tokens; 0 keeps all.
        beams: Width of beam search.
        bfloat16: Run the model under bfloat16 autocast where the device has it; the
            distribution that is sampled stays float32.
    """

    decoding: Literal["sample", "greedy", "beam"] = "sample"
    max_new_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    beams: int = 5
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: If a value is out of range; the line names it.
        """
        if self.decoding not in ("sample", "greedy", "beam"):
            raise UserError(f"decoding is {self.decoding!r}: choose sample, greedy or beam")
        require_at_least(1, max_new_tokens=self.max_new_tokens, beams=self.beams)
        require_at_least(0, top_k=self.top_k)
        require_positive(temperature=self.temperature)
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}: give a share in (0, 1]")


@dataclass(frozen=True, slots=True)
class GeneratedResponse:
    """A record's response: its token ids (eos included if produced), and whether eos ended it."""

    record_id: str
    token_ids: tuple[int, ...]
    ended: bool


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    record_ids: Sequence[str],
    settings: SamplingSettings,
    vocabulary: Vocabulary,
    scope: RandomScope,
    synced_gpus: bool = False,
) -> list[GeneratedResponse]:
    """Decode one batch of prompts.

    Args:
        model: A causal language model; its modes are restored afterwards, and
            its own generation defaults (penalties, bans, minimum lengths) do not apply.
        prompts: Token ids of each prompt.
        record_ids: The prompts' records: names in errors, and keys of the random numbers.
        settings: How to decode.
        vocabulary: Valid tokens, end and padding.
        scope: What the random numbers depend on besides the record id.
        synced_gpus: Keep stepping until every rank is done, as sharded strategies need.

    Returns:
        One response per prompt, in order. What a record samples depends on `scope` and its id
        alone, up to the rounding of its logits.

    Raises:
        UserError: If a prompt and the new tokens exceed the model's window, or a next-token
            distribution is not finite.
        ValueError: If prompts and record ids do not pair up, or a prompt is empty.
    """
    check_window(model, prompts, record_ids, settings.max_new_tokens)
    ids, mask = left_pad(prompts, vocabulary.pad_id, model.device)
    beams = settings.beams if settings.decoding == "beam" else 1
    keys = scope.keys(record_ids, model.device)
    chooser = _Chooser(settings, keys, ids.shape[1], vocabulary.size)
    config = GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,
        num_beams=beams,
        renormalize_logits=beams > 1,
        eos_token_id=vocabulary.ends,
        pad_token_id=vocabulary.pad_id,
        use_cache=True,
    )
    with inference_state(model, settings.bfloat16):
        sequences: Tensor = cast(Any, model).generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([chooser]),
            synced_gpus=synced_gpus,
        )
    refuse_not_finite(chooser.not_finite.view(len(prompts), -1).any(dim=-1), record_ids)
    return generated(record_ids, sequences[:, ids.shape[1] :], vocabulary)


def generated(
    record_ids: Sequence[str], tokens: Tensor, vocabulary: Vocabulary
) -> list[GeneratedResponse]:
    """Return each row of tokens, [B, T], up to its first end-of-sequence token."""
    return [
        GeneratedResponse(record_id, *cut_at_end(row, vocabulary.ends))
        for record_id, row in zip(record_ids, tokens.tolist(), strict=True)
    ]


class _Chooser(LogitsProcessor):
    """Masks padded vocabulary rows and, when sampling, makes each row's draw its only maximum.

    `generate` then takes the maximum, so its own global generator is never used. A flag collects
    rows without a finite distribution, because an exception here would need a device
    synchronisation at every step.
    """

    def __init__(
        self, settings: SamplingSettings, keys: Tensor, prompt_width: int, vocabulary_size: int
    ) -> None:
        rows = len(keys) * (settings.beams if settings.decoding == "beam" else 1)
        self.settings = settings
        self.keys = keys
        self.prompt_width = prompt_width
        self.vocabulary_size = vocabulary_size
        self.not_finite = torch.zeros(rows, dtype=torch.bool, device=keys.device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores to maximise, float32 [B, V]; changes `scores`, which is a copy."""
        scores[:, self.vocabulary_size :] = -torch.inf
        if self.settings.decoding != "sample":
            self.not_finite |= ~scores.amax(dim=-1).isfinite()
            return scores
        allowed = sampling_scores(
            scores[:, : self.vocabulary_size],
            self.settings.temperature,
            self.settings.top_p,
            self.settings.top_k,
        )
        position = input_ids.shape[1] - self.prompt_width
        choice = keyed_choice(allowed, self.keys, stream=position)
        self.not_finite |= choice < 0
        return scores.scatter_(-1, choice.clamp(min=0).unsqueeze(-1), torch.inf)


def generate_responses(
    model: PreTrainedModel,
    encoded: Sequence[EncodedRecord],
    settings: SamplingSettings,
    vocabulary: Vocabulary,
    scope: RandomScope,
    batch_size: int = 32,
    max_batch_tokens: int | None = None,
    synced_gpus: bool = False,
) -> list[GeneratedResponse]:
    """Decode a response to every record's prompt, in batches of prompts of similar length.

    Args:
        model: A causal language model, as in `generate`.
        encoded: Records; only their prompts are read.
        settings: How to decode.
        vocabulary: Valid tokens, end and padding.
        scope: What the random numbers depend on besides the record id.
        batch_size: Most prompts in a batch.
        max_batch_tokens: Most tokens in a batch, `max_new_tokens` per prompt and padding included.
        synced_gpus: Every rank makes the same number of model calls, with records of its own.

    Returns:
        One response per record, in the order given.
    """
    return in_buckets(
        lambda prompts, names: generate(
            model, prompts, names, settings, vocabulary, scope, synced_gpus
        ),
        encoded,
        settings.max_new_tokens,
        vocabulary.pad_id,
        model.device,
        batch_size,
        max_batch_tokens,
        synced_gpus,
    )
