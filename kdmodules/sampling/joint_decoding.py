"""Several models step side by side over the same tokens, each with its own cache.

`generate` steps one model. Where a token comes from a mixture of models (a teacher ensemble, or
MiniLLM's teacher-mixed student), all of them must read it before the next is chosen.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from kdmodules.models import anatomy
from kdmodules.sampling.generation_batches import (
    Vocabulary,
    check_window,
    inference_state,
    left_pad,
    refuse_not_finite,
)
from kdmodules.sampling.preallocated_cache import preallocated_cache

Choose = Callable[[list[Tensor], int], Tensor]
"""From each model's logits, float32 [B, V], and the position in the response, tokens, int64 [B]."""


class CachedModel:
    """A model that yields its next-token logits while its cache grows.

    Args:
        model: A causal language model.
        mask: 1 at real tokens, 0 elsewhere, int64 [B, T]: the tokens of the cache, then the first
            that will be read. A token's position is the number of real ones before it, wherever
            the zeros are.
        vocabulary_size: Valid tokens.
        cache: Keys and values of tokens that were read already, with room for those to come.
        whole: Run its own forward, where its parts are not known.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        mask: Tensor,
        vocabulary_size: int,
        cache: Cache,
        whole: bool = False,
    ) -> None:
        self.model = model
        self.mask = mask
        self.vocabulary_size = vocabulary_size
        self.head = anatomy.head_of(model, whole).rows(vocabulary_size)
        self.cache = cache

    def next_logits(self, ids: Tensor) -> Tensor:
        """Read the next tokens, [B, T], and return the logits after them, float32 [B, V]."""
        # Padding is masked, so its position only has to be a valid one.
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        inputs = {
            "input_ids": ids,
            "attention_mask": self.mask,
            "position_ids": positions,
            "past_key_values": self.cache,
            "use_cache": True,
        }
        states = anatomy.run(self.model, inputs, whole=self.head.weight is None)[:, -1]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], dim=1)
        return self._logits(states)[:, : self.vocabulary_size].float()

    def _logits(self, states: Tensor) -> Tensor:
        weight = self.head.weight
        if weight is None or weight.dtype != self.head.wide_type(states):
            return self.head.logits(states)
        # With the vocabulary first, a product with so few rows takes two thirds of the time on CPU.
        return self.head.finish_((weight @ states.t()).t())


def log_mixture(logits: Sequence[Tensor], shares: Sequence[float], temperature: float) -> Tensor:
    """Return log(sum_i s_i p_i) of models' next-token distributions, float32 [B, V].

    Args:
        logits: float32 [B, V] of each model.
        shares: Weight s_i of each model, in [0, 1]; together 1.
        temperature: Divides every model's logits, before anything is mixed.
    """
    mixed: Tensor | None = None
    # Under precision bf16-true a tensor without a type of its own would be rounded to bfloat16.
    log_shares = torch.tensor(shares, dtype=torch.float32).log().tolist()
    for of_model, log_share in zip(logits, log_shares, strict=True):
        part = log_share + (of_model / temperature).log_softmax(dim=-1)
        mixed = part if mixed is None else torch.logaddexp(mixed, part)
    if mixed is None:
        raise ValueError("a mixture needs at least one model")
    return mixed


def decode_jointly(
    models: Sequence[PreTrainedModel],
    prompts: Sequence[Sequence[int]],
    record_ids: Sequence[str],
    choose: Choose,
    vocabulary: Vocabulary,
    max_new_tokens: int,
    bfloat16: bool = False,
    synced_gpus: bool = False,
) -> Tensor:
    """Decode one batch of prompts with a token at a time for all models.

    Args:
        models: One vocabulary, one device; their modes are restored afterwards.
        prompts: Token ids of each prompt.
        record_ids: The prompts' records, for errors.
        choose: Picks each row's next token, or -1 where there is no distribution to pick from.
            Rows that have ended are shown on, with padding as their last token.
        vocabulary: Valid tokens, end and padding.
        max_new_tokens: Longest response in tokens, the end-of-sequence token included.
        bfloat16: Run the models under bfloat16 autocast where the device has it.
        synced_gpus: Keep stepping until every rank is done, as sharded strategies need.

    Returns:
        int64 [B, steps]; what follows a row's first end-of-sequence token is noise.

    Raises:
        UserError: If a prompt and the new tokens exceed a model's window, or a row that had not
            ended met no distribution.
        ValueError: If prompts and record ids do not pair up, or a prompt is empty.
    """
    for model in models:
        check_window(model, prompts, record_ids, max_new_tokens)
    ids, mask = left_pad(prompts, vocabulary.pad_id, models[0].device)
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(inference_state(model, bfloat16))
        room = ids.shape[1] + max_new_tokens
        cached = [
            CachedModel(model, mask, vocabulary.size, preallocated_cache(model.config, room))
            for model in models
        ]
        return step_together(
            cached, ids, record_ids, choose, vocabulary, max_new_tokens, synced_gpus
        )


def step_together(
    cached: Sequence[CachedModel],
    ids: Tensor,
    record_ids: Sequence[str],
    choose: Choose,
    vocabulary: Vocabulary,
    max_new_tokens: int,
    synced_gpus: bool = False,
) -> Tensor:
    """Decode on from where models stand; arguments and result are those of `decode_jointly`.

    Args:
        cached: The models, in evaluation mode, without gradients.
        ids: What they read first, int64 [B, T].
        record_ids: The rows' records, for errors.
        choose: As there.
        vocabulary: As there.
        max_new_tokens: As there; the same on all ranks where they are synced.
        synced_gpus: As there.

    Raises:
        UserError: If a row that had not ended met no distribution.
    """
    tokens: list[Tensor] = []
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    not_finite = torch.zeros_like(ended)
    for position in range(max_new_tokens):
        choice = choose([model.next_logits(ids) for model in cached], position)
        not_finite |= (choice < 0) & ~ended
        token = choice.clamp(min=0)
        tokens.append(token)
        for end in vocabulary.ends:
            ended |= token == end
        if _all_ended(ended, synced_gpus):
            break
        ids = token.masked_fill(ended, vocabulary.pad_id).unsqueeze(-1)
    refuse_not_finite(not_finite, record_ids)
    return torch.stack(tokens, dim=1)


def _all_ended(ended: Tensor, synced_gpus: bool) -> bool:
    remaining = (~ended).sum()
    if synced_gpus:
        torch.distributed.all_reduce(remaining)
    return int(remaining) == 0
