"""Text that a model writes on from the middle of records that it has just read.

The keys and values of the pass that read the records serve on, so no token enters the model twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from datamodules.batches import InstructionBatch
from kdmodules.causal_lm import CausalLM
from kdmodules.generation_batches import Vocabulary, cut_at_end, largest_of_ranks
from kdmodules.joint_decoding import CachedModel, step_together


@dataclass(frozen=True)
class Branch:
    """Where the model's own text leaves a record's.

    Attributes:
        row: The record's row in the batch.
        given: The record's first tokens, prompt included, that stay; one or more.
        token: The model's own after them.
        tokens: How many shall follow it.
    """

    row: int
    given: int
    token: int
    tokens: int


def write_branches(
    lm: CausalLM,
    batch: InstructionBatch,
    cache: DynamicCache,
    branches: Sequence[Branch],
    vocabulary: Vocabulary,
    synced: bool,
) -> list[tuple[int, ...]]:
    """Returns the greedy text of each branch, up to and including eos where it is written.

    Branches of similar lengths are written together, as many at a time as the batch has rows.

    Args:
        lm: The model, in evaluation mode, entered at its root.
        batch: The records, padded on the right.
        cache: Keys and values of the whole batch; not changed.
        branches: What to write.
        vocabulary: Valid tokens, end and padding.
        synced: Every rank steps the model equally often, as sharded strategies need.

    Raises:
        UserError: Naming the record that met a distribution which is not a number.
    """
    size = len(batch.record_ids)
    order = sorted(range(len(branches)), key=lambda index: -branches[index].tokens)
    groups = [order[first : first + size] for first in range(0, len(order), size)]
    device = batch.input_ids.device
    found: dict[int, tuple[int, ...]] = {}
    spare = Branch(row=0, given=1, token=vocabulary.pad_id, tokens=1)
    for place in range(largest_of_ranks(len(groups), device) if synced else len(groups)):
        group = groups[place] if place < len(groups) else []
        chosen = [branches[index] for index in group] or [spare]
        steps = max(one.tokens for one in chosen)
        steps = largest_of_ranks(steps, device) if synced else steps
        texts = _write_group(lm, batch, cache, chosen, vocabulary, steps, synced)
        found.update(zip(group, texts, strict=False))
    return [found[index] for index in range(len(branches))]


def _write_group(
    lm: CausalLM,
    batch: InstructionBatch,
    cache: DynamicCache,
    branches: Sequence[Branch],
    vocabulary: Vocabulary,
    steps: int,
    synced: bool,
) -> list[tuple[int, ...]]:
    device = batch.input_ids.device
    given = torch.tensor([one.given for one in branches], device=device)
    width = max(one.given for one in branches)
    kept = torch.arange(width, device=device) < given.unsqueeze(-1)  # [G, width]
    mask = torch.cat([kept.long(), torch.ones_like(given).unsqueeze(-1)], dim=1)
    rows = torch.tensor([one.row for one in branches], device=device)
    model = CachedModel(lm.model, mask, vocabulary.size, _cut_cache(lm, cache, rows, width))
    written = step_together(
        [model],
        torch.tensor([[one.token] for one in branches], device=device),
        [batch.record_ids[one.row] for one in branches],
        _likeliest,
        vocabulary,
        steps,
        synced,
    )
    return [
        cut_at_end(text, vocabulary.eos_id)[0][: one.tokens]
        for one, text in zip(branches, written.tolist(), strict=True)
    ]


def _cut_cache(lm: CausalLM, cache: DynamicCache, rows: Tensor, width: int) -> DynamicCache:
    """Returns the keys and values of some rows, cut to a width."""
    cut = DynamicCache(config=lm.model.config)
    for index, layer in enumerate(cache.layers):
        if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
            raise TypeError(f"layer {index} of the cache holds no keys and values of attention")
        cut.update(layer.keys[rows, :, :width], layer.values[rows, :, :width], index)
    return cut


def _likeliest(logits: list[Tensor], position: int) -> Tensor:
    """Returns the places of the maxima, [B]; -1 where there is none."""
    top, best = logits[0].max(dim=-1)
    return best.masked_fill(~top.isfinite(), -1)
