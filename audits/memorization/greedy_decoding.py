"""What a model goes on with: one teacher-forced pass, then generation of what it leaves open."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from transformers import DynamicCache

from audits.memorization.greedy_continuation import GreedyContinuation, Request
from audits.memorization.writing import Branch, ReadBatch, write_branches
from audits.scoring.batches import run_batches
from audits.scoring.greedy_pass import ForcedResponse, force_batch
from audits.scoring.model_access import ModelAccess
from common.errors import UserError
from datamodules.batches import EncodedRecord, collate
from kdmodules.models.causal_lm import CausalLM, model_device
from kdmodules.sampling.generation_batches import largest_of_ranks
from kdmodules.sampling.preallocated_cache import keeps_every_token
from kdmodules.sampling.sampler import SamplingSettings

Requests = Callable[[EncodedRecord], Sequence[Request]]
_READ_TOGETHER = 4
"""Batches whose text is written together."""

Written = dict[int, tuple[int, ...]]
"""Greedy text by the position of the token that differs and begins it."""


def continue_greedily(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    requests: Requests,
    schemes: Sequence[SamplingSettings] = (),
    label: str = "memorization",
    read_tokens: Callable[[EncodedRecord], int] | None = None,
) -> list[GreedyContinuation]:
    """Returns every record's continuation, whole on every rank.

    Args:
        access: The model, in evaluation mode.
        encoded: Records with at least one response token.
        requests: The greedy text that will be read of a record.
        schemes: Ways of sampling under which the true tokens are given probabilities.
        label: Name of the progress bar.
        read_tokens: How many of a record's tokens are read; the rest is not run. None reads all.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
        UserError: The same, met while generating; or the model cannot go on from the middle of a
            text that it has read.
    """
    read = encoded if read_tokens is None else [_cut(one, read_tokens(one)) for one in encoded]
    writes = any(requests(record) for record in encoded)
    if writes and not keeps_every_token(access.lm.model.config):
        raise UserError(
            f"{type(access.lm.model).__name__} keeps a running state in place of its tokens' keys "
            "and values, which no text can branch off from: leave memorization out"
        )
    encoder = access.encoder

    def text(ids: Sequence[int]) -> str:
        return str(encoder.tokenizer.decode(list(ids), skip_special_tokens=True))

    def run(lm: CausalLM, places: Sequence[int]) -> list[tuple[ForcedResponse, Written]]:
        parts, forced = _read(lm, access, [read[place] for place in places], schemes, writes)
        written: list[Written] = [{} for _ in places]
        continuations = [
            GreedyContinuation(encoded[place], one, access.vocabulary.ends, text)
            for place, one in zip(places, forced, strict=True)
        ]
        branches = _branches(continuations, requests, access.batch_size)
        if writes:
            synced = access.ranks.world_size > 1
            texts = write_branches(lm, parts, branches, access.vocabulary, synced)
            for branch, ids in zip(branches, texts, strict=True):
                row = branch.part * access.batch_size + branch.row
                written[row][branch.given - len(continuations[row].record.prompt_ids)] = ids
        return list(zip(forced, written, strict=True))

    together = replace(access, batch_size=access.batch_size * _READ_TOGETHER)
    results = run_batches(together, [len(record) for record in read], label, run)
    return [
        GreedyContinuation(record, forced, access.vocabulary.ends, text, written)
        for record, (forced, written) in zip(encoded, results, strict=True)
    ]


def _read(
    lm: CausalLM,
    access: ModelAccess,
    records: Sequence[EncodedRecord],
    schemes: Sequence[SamplingSettings],
    keep: bool,
) -> tuple[list[ReadBatch], list[ForcedResponse]]:
    """Reads records of similar length in batches of the audit's size.

    A pass is cheapest in small batches, which hold little padding; text is cheapest to write in
    large ones, where each step reads all weights once for more records.

    Returns:
        The batches with their keys and values, none unless ``keep``; and every record's forced
        response.
    """
    size, device = access.batch_size, model_device(lm)
    chunks = [records[first : first + size] for first in range(0, len(records), size)]
    rounds = len(chunks)
    if access.ranks.world_size > 1:
        rounds = largest_of_ranks(rounds, device)
    parts: list[ReadBatch] = []
    forced: list[ForcedResponse] = []
    for place in range(rounds):
        # A rank that is short reads its last batch again: sharded weights need every rank.
        batch = collate(chunks[min(place, len(chunks) - 1)], access.encoder.pad_id).to(device)
        # Of every position, whatever window a block looks back through: text may branch off there.
        cache = DynamicCache() if keep else None
        found = force_batch(lm, batch, schemes, cache)
        if place < len(chunks):
            forced += found
            if cache is not None:
                parts.append(ReadBatch(batch, cache))
    return parts, forced


def _cut(record: EncodedRecord, tokens: int) -> EncodedRecord:
    return replace(record, response_ids=record.response_ids[:tokens])


def _branches(
    continuations: Sequence[GreedyContinuation], requests: Requests, size: int
) -> list[Branch]:
    """Returns what must be generated.

    Prefixes that end in the same wrong token share what follows it.
    """
    needed: dict[tuple[int, int], int] = {}
    for row, continuation in enumerate(continuations):
        for request in requests(continuation.record):
            place, tokens = continuation.missing(request)
            if tokens:
                needed[row, place] = max(tokens, needed.get((row, place), 0))
    return [
        Branch(
            *divmod(row, size),
            len(continuations[row].record.prompt_ids) + place,
            continuations[row].forced.best_ids[place],
            tokens,
        )
        for (row, place), tokens in needed.items()
    ]
