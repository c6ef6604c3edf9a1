"""Text that a model writes on from the middle of records that it has just read.

The keys and values of the pass that read the records serve on, so no token enters the model twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from datamodules.batches import InstructionBatch
from kdmodules.models.causal_lm import CausalLM
from kdmodules.sampling.generation_batches import Vocabulary, cut_at_end, largest_of_ranks
from kdmodules.sampling.joint_decoding import CachedModel, step_together
from kdmodules.sampling.preallocated_cache import preallocated_cache


@dataclass(frozen=True)
class ReadBatch:
    """Records that a model has read.

    Attributes:
        batch: The records, padded on the right.
        cache: Keys and values of the whole batch.
    """

    batch: InstructionBatch
    cache: DynamicCache


@dataclass(frozen=True)
class Branch:
    """Where the model's own text leaves a record's.

    Attributes:
        part: The place of the record's batch among those read.
        row: The record's row in that batch.
        given: The record's first tokens, prompt included, that stay; one or more.
        token: The model's own after them.
        tokens: How many shall follow it.
    """

    part: int
    row: int
    given: int
    token: int
    tokens: int


def write_branches(
    lm: CausalLM,
    parts: Sequence[ReadBatch],
    branches: Sequence[Branch],
    vocabulary: Vocabulary,
    synced: bool,
) -> list[tuple[int, ...]]:
    """Returns the greedy text of each branch, up to and including eos where it is written.

    Branches of similar lengths are written together, as many at a time as records were read.

    Args:
        lm: The model, in evaluation mode, entered at its root.
        parts: What was read; not changed.
        branches: What to write.
        vocabulary: Valid tokens, end and padding.
        synced: Every rank steps the model equally often, as sharded strategies need.

    Raises:
        UserError: Naming the record that met a distribution which is not a number.
    """
    size = sum(len(part.batch.record_ids) for part in parts)
    order = sorted(range(len(branches)), key=lambda index: -branches[index].tokens)
    groups = [order[first : first + size] for first in range(0, len(order), size)]
    device = parts[0].batch.input_ids.device
    found: dict[int, tuple[int, ...]] = {}
    spare = Branch(part=0, row=0, given=1, token=vocabulary.pad_id, tokens=1)
    for place in range(largest_of_ranks(len(groups), device) if synced else len(groups)):
        group = groups[place] if place < len(groups) else []
        group = sorted(group, key=lambda index: branches[index].part)
        chosen = [branches[index] for index in group] or [spare]
        steps = max(one.tokens for one in chosen)
        steps = largest_of_ranks(steps, device) if synced else steps
        texts = _write_group(lm, parts, chosen, vocabulary, steps, synced)
        found.update(zip(group, texts, strict=False))
    return [found[index] for index in range(len(branches))]


def _write_group(
    lm: CausalLM,
    parts: Sequence[ReadBatch],
    branches: Sequence[Branch],
    vocabulary: Vocabulary,
    steps: int,
    synced: bool,
) -> list[tuple[int, ...]]:
    """Writes branches, sorted by part, side by side."""
    device = parts[0].batch.input_ids.device
    given = torch.tensor([one.given for one in branches], device=device)
    width = max(one.given for one in branches)
    # On the right edge, where new tokens follow: some blocks look back so many places, not tokens.
    kept = torch.arange(width, device=device) >= width - given.unsqueeze(-1)  # [G, width]
    mask = torch.cat([kept.long(), torch.ones_like(given).unsqueeze(-1)], dim=1)
    cache = _gather_states(lm, parts, branches, width, width + steps)
    written = step_together(
        [CachedModel(lm.model, mask, vocabulary.size, cache, not lm.in_parts)],
        torch.tensor([[one.token] for one in branches], device=device),
        [parts[one.part].batch.record_ids[one.row] for one in branches],
        _likeliest,
        vocabulary,
        steps,
        synced,
    )
    return [
        cut_at_end(text, vocabulary.ends)[0][: one.tokens]
        for one, text in zip(branches, written.tolist(), strict=True)
    ]


def _gather_states(
    lm: CausalLM, parts: Sequence[ReadBatch], branches: Sequence[Branch], width: int, room: int
) -> Cache:
    """Returns the branches' keys and values, ending at a width, with room for more tokens."""
    read = [
        (part.cache, [one for one in branches if one.part == place])
        for place, part in enumerate(parts)
    ]
    read = [(cache, chosen) for cache, chosen in read if chosen]
    gathered = preallocated_cache(lm.model.config, room)
    for index in range(len(gathered.layers)):
        states = [(_attention_states(cache, index), chosen) for cache, chosen in read]
        keys = torch.cat([_cut(both[0], chosen, width) for both, chosen in states])
        values = torch.cat([_cut(both[1], chosen, width) for both, chosen in states])
        gathered.update(keys, values, index)
    return gathered


def _attention_states(cache: DynamicCache, index: int) -> tuple[Tensor, Tensor]:
    """Returns a block's keys and values, each [B, H, T, D]."""
    layer = cache.layers[index]
    if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
        raise TypeError(f"layer {index} of the cache holds no keys and values of attention")
    return layer.keys, layer.values


def _cut(states: Tensor, branches: Sequence[Branch], width: int) -> Tensor:
    """Returns what branches keep of [B, H, T, D], ending at ``width``, [branches, H, width, D]."""
    kept = [states[one.row, :, : one.given] for one in branches]
    return torch.stack([pad(part, (0, 0, width - part.shape[1], 0)) for part in kept])


def _likeliest(logits: list[Tensor], position: int) -> Tensor:
    """Returns the places of the maxima, [B]; -1 where there is none."""
    top, best = logits[0].max(dim=-1)
    return best.masked_fill(~top.isfinite(), -1)
