"""One teacher-forced pass that tells, at every response token, what greedy decoding would write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache

from datamodules.batches import InstructionBatch
from kdmodules.models.causal_lm import CausalLM
from kdmodules.sampling.keyed_choice import sampling_scores
from kdmodules.sampling.likeliest import likeliest_tokens
from kdmodules.sampling.sampler import SamplingSettings

Result = TypeVar("Result")

_CHUNK_TOKENS = 128


@dataclass(frozen=True)
class ForcedResponse:
    """What a model says of a record's response, token by token, given the true tokens before it.

    Attributes:
        record_id: The record.
        best_ids: The likeliest token at each of the n scored positions. Equally likely tokens give
            the lowest id, as in ``generate``.
        logp: Log-probability of each true token, n numbers in nats, by sampling scheme; -inf where
            the scheme never draws the token.
    """

    record_id: str
    best_ids: tuple[int, ...]
    logp: Mapping[SamplingSettings, tuple[float, ...]] = field(default_factory=dict)


def force_batch(
    lm: CausalLM,
    batch: InstructionBatch,
    schemes: Sequence[SamplingSettings] = (),
    cache: DynamicCache | None = None,
) -> list[ForcedResponse]:
    """Runs one batch through the model, from within its root.

    Two logits closer than the rounding of their product are ordered by that rounding, here as
    between any two batches of ``generate``.

    Args:
        lm: The model.
        batch: Records with at least one response token, on the model's device.
        schemes: Ways of sampling under which the true tokens are given probabilities; only
            temperature, top-k and top-p count.
        cache: Empty; takes the keys and values of all positions.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
    """
    head, hidden, targets = lm.head, lm.hidden(batch, cache), batch.targets()
    if schemes:
        chunks = zip(hidden.split(_CHUNK_TOKENS), targets.split(_CHUNK_TOKENS), strict=True)
        parts = [_read_logits(head.logits(part), true, schemes) for part, true in chunks]
        top, best, *columns = (torch.cat(column) for column in zip(*parts, strict=True))
    else:
        columns = []
        top, best = likeliest_tokens(hidden, head)
    finite = top.isfinite()
    if not bool(finite.all()):
        record_id = batch.record_ids[int(batch.record_index()[~finite][0])]
        raise FloatingPointError(f"record {record_id}: the model's next-token scores are no number")
    counts = batch.response_mask.sum(dim=1).tolist()
    ids = [tuple(part.tolist()) for part in best.cpu().split(counts)]
    logp = [[tuple(part.tolist()) for part in one.cpu().split(counts)] for one in columns]
    return [
        ForcedResponse(
            record_id,
            ids[row],
            {scheme: logp[place][row] for place, scheme in enumerate(schemes)},
        )
        for row, record_id in enumerate(batch.record_ids)
    ]


def _read_logits(
    logits: Tensor, targets: Tensor, schemes: Sequence[SamplingSettings]
) -> list[Tensor]:
    """Reads [n, V] logits.

    Returns:
        The maximum and its place, and per scheme the log-probability of the target in float64,
        each [n].
    """
    found = list(logits.max(dim=-1))
    for scheme in schemes:
        scores = sampling_scores(logits, scheme.temperature, scheme.top_p, scheme.top_k)
        chosen = scores.gather(-1, targets.unsqueeze(-1)).squeeze(-1).double()
        found.append(chosen - scores.logsumexp(dim=-1).double())
    return found
