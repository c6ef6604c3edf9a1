"""One teacher-forced pass that tells, at every response token, what greedy decoding would write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from callbacks.membership.signals.base import ModelAccess
from datamodules.batches import EncodedRecord, collate, length_buckets
from kdmodules.causal_lm import CausalLM, model_device
from kdmodules.keyed_choice import sampling_scores
from kdmodules.sampling import SamplingSettings

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


def force_responses(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    label: str,
    schemes: Sequence[SamplingSettings] = (),
) -> list[ForcedResponse]:
    """Runs every record through the model once.

    Batches are cut over all records before they are dealt to ranks, as in ``score_records``. Two
    logits closer than the rounding of their product are ordered by that rounding, here as between
    any two batches of ``generate``.

    Args:
        access: The model, in evaluation mode.
        encoded: Records with at least one response token.
        label: Name of the progress bar.
        schemes: Ways of sampling under which the true tokens are given probabilities; only
            temperature, top-k and top-p count.

    Returns:
        One entry per record, in order, whole on every rank.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
    """
    lengths = [len(record) for record in encoded]
    buckets = length_buckets(lengths, access.batch_size, access.max_batch_tokens)
    mine = access.ranks.share(buckets)
    found: list[list[tuple[int, ForcedResponse]]] = []
    with access.progress(label, len(mine)) as advance:
        for bucket in mine:
            forced = _force_batch(access, [encoded[index] for index in bucket], schemes)
            found.append(list(zip(bucket, forced, strict=True)))
            advance()
    by_place = dict(pair for part in access.ranks.gather(found) for pair in part)
    return [by_place[place] for place in range(len(encoded))]


def _force_batch(
    access: ModelAccess, encoded: Sequence[EncodedRecord], schemes: Sequence[SamplingSettings]
) -> list[ForcedResponse]:
    batch = collate(encoded, access.encoder.pad_id).to(model_device(access.lm))
    targets = batch.targets()

    def compute(lm: CausalLM) -> tuple[Tensor, ...]:
        weight = lm.head_weight[: lm.vocabulary_size]
        chunks = zip(
            lm.hidden(batch).split(_CHUNK_TOKENS), targets.split(_CHUNK_TOKENS), strict=True
        )
        parts = [_read_logits(hidden @ weight.T, true, schemes) for hidden, true in chunks]
        return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))

    finite, best, *columns = access.lm(compute)
    if not bool(finite.all()):
        record = encoded[int(batch.record_index()[~finite][0])].record_id
        raise FloatingPointError(f"record {record}: the model's next-token scores are not numbers")
    counts = [len(record.response_ids) for record in encoded]
    ids = [tuple(part.tolist()) for part in best.cpu().split(counts)]
    logp = [[tuple(part.tolist()) for part in one.cpu().split(counts)] for one in columns]
    return [
        ForcedResponse(
            record.record_id,
            ids[row],
            {scheme: logp[place][row] for place, scheme in enumerate(schemes)},
        )
        for row, record in enumerate(encoded)
    ]


def _read_logits(
    logits: Tensor, targets: Tensor, schemes: Sequence[SamplingSettings]
) -> list[Tensor]:
    """Reads [n, V] logits.

    Returns:
        Whether they are finite, the place of the maximum, and per scheme the log-probability of
        the target in float64, each [n].
    """
    top, best = logits.max(dim=-1)
    found = [top.isfinite(), best]
    for scheme in schemes:
        scores = sampling_scores(logits, scheme.temperature, scheme.top_p, scheme.top_k)
        chosen = scores.gather(-1, targets.unsqueeze(-1)).squeeze(-1).double()
        found.append(chosen - scores.logsumexp(dim=-1).double())
    return found
