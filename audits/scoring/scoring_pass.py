"""One forward pass over a set of records, on any number of ranks, each scored exactly once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from audits.scoring.model_access import ModelAccess
from audits.scoring.statistics_file import StatisticsFile
from audits.scoring.token_statistics import StatisticsKey, TokenStatistics
from datamodules.batches import EncodedRecord, InstructionBatch, collate, length_buckets
from kdmodules.models.causal_lm import CausalLM, model_device
from kdmodules.scoring import TokenScores, UndefinedScoreError, token_statistics

_GATHERED_BATCHES = 16
"""Batches of a rank that are exchanged at once: few exchanges, and few tables in memory."""


def score_records(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    label: str,
    key: StatisticsKey | None = None,
    folder: Path | None = None,
    *,
    outside_top: bool = False,
) -> StatisticsFile:
    """Puts the token statistics of every record on disk, from one forward pass each.

    Args:
        access: The model, in evaluation mode.
        encoded: Records with at least one response token.
        label: Name of the progress bar.
        key: What the statistics will say that they were computed from.
        folder: Where they lie while they are in use; None is the system's folder for temporary
            files.
        outside_top: Whether to tell what is left outside the likeliest tokens.

    Returns:
        Statistics in the order of ``encoded``, whole on every rank.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
    """
    record_ids = [record.record_id for record in encoded]
    batches = scored_batches(access, encoded, label, outside_top=outside_top)
    return StatisticsFile.of_batches(record_ids, batches, folder, key)


def scored_batches(
    access: ModelAccess,
    encoded: Sequence[EncodedRecord],
    label: str,
    *,
    outside_top: bool = False,
) -> Iterator[tuple[list[int], TokenStatistics]]:
    """Yields every batch of a pass: places in ``encoded``, and the statistics of the records there.

    Batches are cut over all records before they are dealt to ranks, so that one process and
    several run the same batches and give the same numbers. Every rank is given all of them.

    Args and errors are those of :func:`score_records`.
    """
    lm, ranks = access.lm, access.ranks
    buckets = length_buckets(
        [len(record) for record in encoded], access.batch_size, access.max_batch_tokens
    )
    mine = ranks.share(buckets)
    done = 0
    with access.progress(label, len(mine)) as advance:
        for first in range(0, len(mine), _GATHERED_BATCHES):
            found: list[TokenStatistics] = []
            for bucket in mine[first : first + _GATHERED_BATCHES]:
                batch = collate([encoded[index] for index in bucket], access.encoder.pad_id)
                found.append(_score_batch(lm, batch.to(model_device(lm)), outside_top))
                advance()
            # Beyond the last bucket are a short rank's repeats.
            yield from zip(buckets[done:], ranks.gather(found), strict=False)
            done += len(found) * ranks.world_size


def _score_batch(lm: CausalLM, batch: InstructionBatch, outside_top: bool) -> TokenStatistics:
    def compute(lm: CausalLM) -> dict[str, Tensor]:
        given = (lm.hidden(batch), lm.head, batch.targets())
        return token_statistics(*given, outside_top=outside_top).columns()

    try:
        scores = TokenScores(**lm(compute))
    except UndefinedScoreError as error:
        record = batch.record_ids[int(batch.record_index()[error.row])]
        raise FloatingPointError(f"record {record} cannot be scored: {error}") from error
    lengths = batch.response_mask.sum(dim=1)
    return TokenStatistics.from_batch(batch.record_ids, lengths, scores, token_ids=batch.targets())
