"""From a model to recitals: one teacher-forced pass, then generation of what it leaves open."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from transformers import DynamicCache

from callbacks.greedy_pass import ForcedResponse, force_batch, run_batches
from callbacks.membership.signals.base import ModelAccess
from callbacks.memorization.recital import Recital, Request
from callbacks.memorization.writing import Branch, write_branches
from datamodules.batches import EncodedRecord, collate
from kdmodules.causal_lm import CausalLM, model_device
from kdmodules.sampling import SamplingSettings

Requests = Callable[[EncodedRecord], Sequence[Request]]
Written = dict[int, tuple[int, ...]]
"""Greedy text by the position of the token that differs and begins it."""


def recite(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    requests: Requests,
    schemes: Sequence[SamplingSettings] = (),
    label: str = "memorization",
    read_tokens: Callable[[EncodedRecord], int] | None = None,
) -> list[Recital]:
    """Returns every record's recital, whole on every rank.

    Args:
        access: The model, in evaluation mode.
        encoded: Records with at least one response token.
        requests: The greedy text that will be read of a record.
        schemes: Ways of sampling under which the true tokens are given probabilities.
        label: Name of the progress bar.
        read_tokens: How many of a record's tokens are read; the rest is not run. None reads all.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
        UserError: The same, met while generating.
    """
    read = encoded if read_tokens is None else [_cut(one, read_tokens(one)) for one in encoded]
    writes = any(requests(record) for record in encoded)
    encoder = access.encoder

    def text(ids: Sequence[int]) -> str:
        return str(encoder.tokenizer.decode(list(ids), skip_special_tokens=True))

    def run(lm: CausalLM, places: Sequence[int]) -> list[tuple[ForcedResponse, Written]]:
        batch = collate([read[place] for place in places], encoder.pad_id).to(model_device(lm))
        cache = DynamicCache(config=lm.model.config) if writes else None
        forced = force_batch(lm, batch, schemes, cache)
        written: list[Written] = [{} for _ in places]
        if cache is None:
            return list(zip(forced, written, strict=True))
        recitals = [
            Recital(encoded[place], one, encoder.eos_id, text)
            for place, one in zip(places, forced, strict=True)
        ]
        branches = _branches(recitals, requests)
        synced = access.ranks.world_size > 1
        texts = write_branches(lm, batch, cache, branches, access.vocabulary, synced)
        for branch, ids in zip(branches, texts, strict=True):
            written[branch.row][branch.given - len(recitals[branch.row].record.prompt_ids)] = ids
        return list(zip(forced, written, strict=True))

    results = run_batches(access, [len(record) for record in read], label, run)
    return [
        Recital(record, forced, encoder.eos_id, text, written)
        for record, (forced, written) in zip(encoded, results, strict=True)
    ]


def _cut(record: EncodedRecord, tokens: int) -> EncodedRecord:
    return replace(record, response_ids=record.response_ids[:tokens])


def _branches(recitals: Sequence[Recital], requests: Requests) -> list[Branch]:
    """Returns what must be generated.

    Prefixes that end in the same wrong token share what follows it.
    """
    needed: dict[tuple[int, int], int] = {}
    for row, recital in enumerate(recitals):
        for request in requests(recital.record):
            place, tokens = recital.missing(request)
            if tokens:
                needed[row, place] = max(tokens, needed.get((row, place), 0))
    return [
        Branch(
            row,
            len(recitals[row].record.prompt_ids) + place,
            recitals[row].forced.best_ids[place],
            tokens,
        )
        for (row, place), tokens in needed.items()
    ]
