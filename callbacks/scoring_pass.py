"""One forward pass over a set of records, on any number of ranks, each scored exactly once."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from torch import Tensor

from callbacks.membership.token_statistics import StatisticsKey, TokenStatistics
from callbacks.ranks import Ranks
from datamodules.batches import EncodedRecord, InstructionBatch, collate, length_buckets
from kdmodules.causal_lm import CausalLM, model_device
from kdmodules.scoring import TokenScores, UndefinedScoreError, token_statistics

Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]


def score_records(
    lm: CausalLM,
    encoded: Sequence[EncodedRecord],
    pad_id: int,
    ranks: Ranks,
    batch_size: int,
    max_batch_tokens: int,
    progress: Progress,
    key: StatisticsKey | None = None,
) -> TokenStatistics:
    """Returns the token statistics of every record from one forward pass each.

    Batches are cut over all records before they are dealt to ranks, so that one process and
    several run the same batches and give the same numbers.

    Args:
        lm: The model, in evaluation mode.
        encoded: Records with at least one response token.
        pad_id: Token id that fills padding.
        ranks: This process among all.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
        progress: Opens a bar of so many steps; called once.
        key: What the statistics will say that they were computed from.

    Returns:
        Statistics in the order of ``encoded``, whole on every rank.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
    """
    buckets = length_buckets([len(record) for record in encoded], batch_size, max_batch_tokens)
    mine = ranks.share(buckets)
    found: list[TokenStatistics] = []
    with progress(len(mine)) as advance:
        for bucket in mine:
            batch = collate([encoded[index] for index in bucket], pad_id).to(model_device(lm))
            found.append(_score_batch(lm, batch, key))
            advance()
    return TokenStatistics.concatenate(ranks.gather(found)[: len(buckets)]).select(
        [record.record_id for record in encoded]
    )


def _score_batch(
    lm: CausalLM, batch: InstructionBatch, key: StatisticsKey | None
) -> TokenStatistics:
    def compute(lm: CausalLM) -> dict[str, Tensor]:
        weight = lm.head_weight[: lm.vocabulary_size]
        scores = token_statistics(lm.hidden(batch), weight, batch.targets())
        return {
            "logp": scores.logp,
            "mean": scores.mean,
            "variance": scores.variance,
            "rank": scores.rank,
        }

    try:
        scores = TokenScores(**lm(compute))
    except UndefinedScoreError as error:
        record = batch.record_ids[int(batch.record_index()[error.row])]
        raise FloatingPointError(f"record {record} cannot be scored: {error}") from error
    lengths = batch.response_mask.sum(dim=1)
    return TokenStatistics.from_batch(batch.record_ids, lengths, scores, key, batch.targets())
