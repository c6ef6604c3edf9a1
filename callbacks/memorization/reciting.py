"""From a model to recitals: one teacher-forced pass, then generation of what it leaves open."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from callbacks.continuing import continuation_rounds, continue_round
from callbacks.greedy_pass import force_responses
from callbacks.membership.signals.base import ModelAccess
from callbacks.memorization.recital import Recital, Request
from datamodules.batches import EncodedRecord
from kdmodules.families import context_window
from kdmodules.keyed_choice import RandomScope
from kdmodules.sampling import SamplingSettings

Branch = tuple[int, int]


def recite(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    requests: Callable[[EncodedRecord], Sequence[Request]],
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
        label: Begins the names of the progress bars.
        read_tokens: How many of a record's tokens are read; the rest is not run. None reads all.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
        UserError: The same, met while generating.
    """
    read = encoded if read_tokens is None else [_cut(one, read_tokens(one)) for one in encoded]
    forced = force_responses(access, read, f"{label}: one pass", schemes)
    encoder = access.encoder

    def text(ids: Sequence[int]) -> str:
        return str(encoder.tokenizer.decode(list(ids), skip_special_tokens=True))

    recitals = [
        Recital(record, one, encoder.eos_id, text)
        for record, one in zip(encoded, forced, strict=True)
    ]
    branches = _branches(recitals, requests)
    texts = _write(access, recitals, branches, f"{label}: greedy text")
    written: list[dict[int, tuple[int, ...]]] = [{} for _ in recitals]
    for (row, place), ids in zip(branches, texts, strict=True):
        written[row][place] = ids
    return [replace(one, written=own) for one, own in zip(recitals, written, strict=True)]


def _cut(record: EncodedRecord, tokens: int) -> EncodedRecord:
    return replace(record, response_ids=record.response_ids[:tokens])


def _branches(
    recitals: Sequence[Recital], requests: Callable[[EncodedRecord], Sequence[Request]]
) -> dict[Branch, int]:
    """Returns the tokens to generate by (record, position of the token that differs).

    Prefixes that end in the same wrong token share what follows it.
    """
    needed: dict[Branch, int] = {}
    for row, recital in enumerate(recitals):
        for request in requests(recital.record):
            place, tokens = recital.missing(request)
            if tokens:
                needed[row, place] = max(tokens, needed.get((row, place), 0))
    return needed


def _write(
    access: ModelAccess, recitals: Sequence[Recital], branches: dict[Branch, int], label: str
) -> list[tuple[int, ...]]:
    """Returns greedy continuations in the order of the branches."""
    starts = [recitals[row].start(place) for row, place in branches]
    lengths = list(branches.values())
    rounds = continuation_rounds(
        {index: (len(start), lengths[index]) for index, start in enumerate(starts)},
        access.batch_size * access.ranks.world_size,
        context_window(access.lm.model),
    )
    found: dict[int, tuple[int, ...]] = {}
    with access.progress(label, len(rounds)) as advance:
        for places in rounds:
            own = [lengths[place] for place in places]
            texts = continue_round(
                access,
                [starts[place] for place in places],
                own,
                SamplingSettings(decoding="greedy", max_new_tokens=max(own)),
                RandomScope(access.seed, "memorization"),
            )
            found.update(zip(places, texts, strict=True))
            advance()
    return [found[index] for index in range(len(starts))]
