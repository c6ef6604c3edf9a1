"""The ragged table of per-token statistics of some records: a batch, or a shard of a whole pass.

Every likelihood attack is a function of it, so a saved table lets a new attack run without a model.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from audits.scoring.segments import segment_mean
from datamodules.records import InstructionRecord
from kdmodules.scoring import TOP_K, TokenScores

SHARD_RECORDS = 512
"""Most records whose tokens are in memory at once: some megabytes, and few enough reads."""

_VALUES = ("logp", "mean", "variance", "rank")
_OPTIONAL = ("token_ids", *(f"outside_top_{k}" for k in TOP_K))


@dataclass(frozen=True, slots=True)
class StatisticsKey:
    """What a table was computed from; two tables of one request with equal keys hold the same
    numbers.

    Attributes:
        model: hash of the model's weights.
        tokenizer: hash of its vocabulary; equal hashes mean comparable tokens.
        records: hash of the record set that was scored, and of the template, window and options
            that turned it into tokens.
    """

    model: str
    tokenizer: str
    records: str


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Per-token statistics of B records with n scored tokens in all, on the CPU.

    Attributes:
        record_ids: B distinct ids.
        offsets: [B + 1] int64; tokens of record b are ``offsets[b]:offsets[b + 1]``, in text order.
        logp: log-probability of the true token, [n], nats.
        mean: mean of log q(v) for v ~ q, [n], nats.
        variance: variance of log q(v) for v ~ q, [n], nats squared.
        rank: tokens with a strictly greater logit than the true one, [n] int64.
        key: what the table was computed from, None if unknown. A selection keeps it.
        token_ids: ids of the scored tokens in the model's tokenizer, [n] int64; None if unknown.
        outside_top_5: log-probability left to each token outside the 5 likeliest, [n], nats; None
            where no attack asked for it.
        outside_top_20: the same of the 20 likeliest.
        facts: numbers about the scored text that no column tells, such as the shots before every
            prompt. A selection keeps them.
    """

    record_ids: tuple[str, ...]
    offsets: Tensor
    logp: Tensor
    mean: Tensor
    variance: Tensor
    rank: Tensor
    key: StatisticsKey | None = None
    token_ids: Tensor | None = None
    outside_top_5: Tensor | None = None
    outside_top_20: Tensor | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_tokens = int(self.offsets[-1])
        if self.offsets.numel() != len(self.record_ids) + 1 or any(
            column.shape != (n_tokens,) for column in self.columns().values()
        ):
            raise ValueError(
                "record_ids [B], offsets [B + 1] and the values [n] do not fit together"
            )
        if len(set(self.record_ids)) != len(self.record_ids):
            raise ValueError("a record was scored twice: record_ids must be distinct")

    @classmethod
    def from_batch(
        cls,
        record_ids: Sequence[str],
        lengths: Tensor,
        scores: TokenScores,
        token_ids: Tensor | None = None,
    ) -> "TokenStatistics":
        """Builds the table of one batch.

        Args:
            record_ids: ids of the B records.
            lengths: scored tokens of each record, [B] (``batch.response_mask.sum(dim=1)``).
            scores: statistics of these tokens, record by record.
            token_ids: ids of these tokens.
        """
        values = {name: column.cpu() for name, column in scores.columns().items()}
        if token_ids is not None:
            values["token_ids"] = token_ids.cpu()
        return cls.of_columns(record_ids, lengths.cpu(), values, None, {})

    @classmethod
    def of_columns(
        cls,
        record_ids: Sequence[str],
        lengths: Tensor,
        columns: Mapping[str, Tensor],
        key: StatisticsKey | None,
        facts: Mapping[str, float],
    ) -> "TokenStatistics":
        """Builds a table from its columns by name, the tokens of each record after the last's."""
        offsets = torch.zeros(len(record_ids) + 1, dtype=torch.int64)
        offsets[1:] = lengths.cumsum(dim=0)
        return cls(tuple(record_ids), offsets, **columns, key=key, facts=facts)

    def columns(self) -> dict[str, Tensor]:
        """Returns what is known of the tokens by name, each [n]."""
        optional = (name for name in _OPTIONAL if getattr(self, name) is not None)
        return {name: getattr(self, name) for name in (*_VALUES, *optional)}

    @property
    def lengths(self) -> Tensor:
        """Scored tokens of each record, [B] int64."""
        return self.offsets.diff()

    @property
    def mean_logp(self) -> Tensor:
        """Mean log-probability of each record's tokens, [B] float64, nats."""
        return segment_mean(self.logp, self.offsets)

    def __len__(self) -> int:
        return len(self.record_ids)

    def take(self, places: Tensor) -> "TokenStatistics":
        """Returns the records at some distinct places, [K] int64, in the order given."""
        lengths = self.lengths[places]
        before = lengths.cumsum(dim=0) - lengths
        shift = torch.repeat_interleave(self.offsets[places] - before, lengths)
        tokens = torch.arange(shift.numel()) + shift
        columns = {name: column[tokens] for name, column in self.columns().items()}
        record_ids = [self.record_ids[place] for place in places.tolist()]
        return self.of_columns(record_ids, lengths, columns, self.key, self.facts)

    def read(self) -> "TokenStatistics":
        """Returns the table itself, which is in memory, as a file of statistics is not."""
        return self

    def shards(self, n_records: int = SHARD_RECORDS) -> Iterator["TokenStatistics"]:
        """Yields the table in parts of so many records."""
        for places in shard_places(len(self), n_records):
            yield self.take(places)


def nats_per_token(parts: Iterable[TokenStatistics]) -> float:
    """Returns the mean negative log-likelihood of all scored tokens of some records."""
    total = n_tokens = 0.0
    for part in parts:
        total -= float(part.logp.double().sum())
        n_tokens += len(part.logp)
    return total / n_tokens


def shard_places(n: int, n_records: int) -> Iterator[Tensor]:
    """Yields the places of n records in runs of so many, the last one as long as it comes out.

    >>> [places.tolist() for places in shard_places(5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, n, n_records):
        yield torch.arange(start, min(start + n_records, n))


def record_set_hash(records: Sequence[InstructionRecord]) -> str:
    """Returns the SHA-256 of the records' ids and texts, in their order."""
    digest = hashlib.sha256()
    for record in records:
        for part in (record.id, record.instruction, record.context, record.response):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\x1f")
    return digest.hexdigest()
