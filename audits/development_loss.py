"""The development loss of an external model: the loss of the given non-members."""

from functools import partial

from audits.context import AuditContext
from audits.known_text import known_text_rows
from audits.rows import ResultRow
from audits.scoring.token_statistics import nats_per_token
from datamodules.batches import collate, length_buckets
from kdmodules.models.causal_lm import model_device
from kdmodules.token_means import TokenSums, supervised_sums

_BATCH_SIZE = 16
_ROUNDING = 1.01
"""Far more than two ways of adding up the same loss can differ by."""


def development_loss(context: AuditContext) -> float:
    """Returns the cross-entropy of the development records, a mean over scored tokens, in nats.

    The batches are those of a validation with the default ``data.eval_batch_size``, so that the
    number is that of a run to the last digit.

    Args:
        context: The model, in evaluation mode, and its records.
    """
    model, data = context.model, context.data
    encoded = data.tokens("development", data.development_records())
    buckets = length_buckets([len(one) for one in encoded], _BATCH_SIZE, max_tokens=None)
    sums = TokenSums()
    with model.progress("development loss", len(buckets)) as advance:
        for bucket in buckets:
            batch = collate([encoded[place] for place in bucket], model.encoder.pad_id)
            sums.add(model.lm(partial(supervised_sums, batch=batch.to(model_device(model.lm)))))
            advance()
    means, *_ = sums.means(lambda totals: totals)
    return means["loss"]


def guess_rows(context: AuditContext) -> list[ResultRow]:
    """Returns the row that warns of a model that guesses; none of one that knows the text.

    A pass that an audit has run tells first whether the loss is anywhere near that of a guess.
    """
    vocabulary_size = context.model.lm.vocabulary_size
    if context.max_records is None:
        statistics = context.token_statistics(
            context.data.opposed_to(context.data.member_population)
        )
        nats = nats_per_token(statistics.shards())
        if not known_text_rows(nats * _ROUNDING, vocabulary_size):
            return []
    return known_text_rows(development_loss(context), vocabulary_size)
