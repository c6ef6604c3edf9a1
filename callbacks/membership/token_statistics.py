"""The ragged table of per-token statistics that one forward pass over a record set yields.

Every likelihood attack is a function of it, so a saved table lets a new attack run without a model.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from callbacks.results import write_table
from datamodules.errors import UserError
from datamodules.records import InstructionRecord
from kdmodules.scoring import TokenScores

_VALUES = ("logp", "mean", "variance", "rank")
_TOKEN_IDS = "token_ids"
_FACTS = "facts"


@dataclass(frozen=True, slots=True)
class StatisticsKey:
    """What a table was computed from; two tables with equal keys hold the same numbers.

    Attributes:
        model: hash of the model's weights.
        tokenizer: hash of its vocabulary; equal hashes mean comparable tokens.
        records: hash of the record set that was scored.
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
    facts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_tokens = int(self.offsets[-1])
        if self.offsets.numel() != len(self.record_ids) + 1 or any(
            column.shape != (n_tokens,) for column in self._columns().values()
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
        key: StatisticsKey | None = None,
        token_ids: Tensor | None = None,
    ) -> "TokenStatistics":
        """Builds the table of one batch.

        Args:
            record_ids: ids of the B records.
            lengths: scored tokens of each record, [B] (``batch.response_mask.sum(dim=1)``).
            scores: statistics of these tokens, record by record.
            key: what they were computed from.
            token_ids: ids of these tokens.
        """
        values = {name: getattr(scores, name).cpu() for name in _VALUES}
        if token_ids is not None:
            values[_TOKEN_IDS] = token_ids.cpu()
        return cls._of(record_ids, lengths.cpu(), values, key, {})

    @classmethod
    def _of(
        cls,
        record_ids: Sequence[str],
        lengths: Tensor,
        columns: Mapping[str, Tensor],
        key: StatisticsKey | None,
        facts: Mapping[str, float],
    ) -> "TokenStatistics":
        offsets = torch.zeros(len(record_ids) + 1, dtype=torch.int64)
        offsets[1:] = lengths.cumsum(dim=0)
        return cls(
            tuple(record_ids),
            offsets,
            logp=columns["logp"],
            mean=columns["mean"],
            variance=columns["variance"],
            rank=columns["rank"],
            key=key,
            token_ids=columns.get(_TOKEN_IDS),
            facts=facts,
        )

    def _columns(self) -> dict[str, Tensor]:
        names = _VALUES if self.token_ids is None else (*_VALUES, _TOKEN_IDS)
        return {name: getattr(self, name) for name in names}

    @classmethod
    def concatenate(cls, parts: Sequence["TokenStatistics"]) -> "TokenStatistics":
        """Joins tables of disjoint records, in the order given.

        Raises:
            ValueError: if there is no part, their keys, facts or columns differ, or a record is in
                two of them.
        """
        if not parts or any(part._kind != parts[0]._kind for part in parts):
            raise ValueError(
                "concatenate needs at least one table, all of them with the same key, facts and "
                "columns"
            )
        lengths = torch.cat([part.lengths for part in parts])
        record_ids = [record_id for part in parts for record_id in part.record_ids]
        columns = [part._columns() for part in parts]
        joined = {name: torch.cat([one[name] for one in columns]) for name in columns[0]}
        return cls._of(record_ids, lengths, joined, parts[0].key, parts[0].facts)

    @property
    def _kind(self) -> tuple[StatisticsKey | None, Mapping[str, float], bool]:
        return self.key, self.facts, self.token_ids is None

    @property
    def entropy(self) -> Tensor:
        """Entropy of the model's distribution at each token, [n], nats."""
        return -self.mean

    @property
    def lengths(self) -> Tensor:
        """Scored tokens of each record, [B] int64."""
        return self.offsets.diff()

    def __len__(self) -> int:
        return len(self.record_ids)

    def select(self, record_ids: Sequence[str]) -> "TokenStatistics":
        """Returns the records asked for, in the order asked for.

        Raises:
            ValueError: if a record is not in the table, or asked for twice.
        """
        places = {record_id: place for place, record_id in enumerate(self.record_ids)}
        missing = [record_id for record_id in record_ids if record_id not in places]
        if missing:
            raise ValueError(f"{len(missing)} records are not in the table, first {missing[0]!r}")
        chosen = torch.tensor([places[record_id] for record_id in record_ids], dtype=torch.int64)
        lengths = self.lengths[chosen]
        before = lengths.cumsum(dim=0) - lengths
        shift = torch.repeat_interleave(self.offsets[chosen] - before, lengths)
        tokens = torch.arange(shift.numel()) + shift
        columns = {name: column[tokens] for name, column in self._columns().items()}
        return self._of(record_ids, lengths, columns, self.key, self.facts)

    def save(self, path: Path) -> None:
        """Writes the table as Parquet, one row per record, with its key as metadata; atomically.

        Raises:
            ValueError: if the table has no key: nobody could tell later what it describes.
        """
        if self.key is None:
            raise ValueError("a table without a key cannot be saved")
        offsets = pa.array(self.offsets.numpy())
        columns = {"record": pa.array(self.record_ids, pa.string())} | {
            name: pa.LargeListArray.from_arrays(offsets, pa.array(column.numpy()))
            for name, column in self._columns().items()
        }
        metadata = {f.name: getattr(self.key, f.name) for f in fields(StatisticsKey)}
        metadata[_FACTS] = json.dumps(dict(self.facts), sort_keys=True)
        write_table(pa.table(columns).replace_schema_metadata(metadata), path)

    @classmethod
    def load(cls, path: Path, expected: StatisticsKey | None = None) -> "TokenStatistics":
        """Reads a table that :meth:`save` wrote.

        Args:
            path: the Parquet file.
            expected: what the table must have been computed from; None accepts anything.

        Raises:
            UserError: if the file is missing, no such table, or computed from something else.
        """
        try:
            table = pq.read_table(path)
            metadata = table.schema.metadata or {}
            key = StatisticsKey(
                *(metadata[f.name.encode()].decode() for f in fields(StatisticsKey))
            )
            known = [_TOKEN_IDS] if _TOKEN_IDS in table.column_names else []
            lists = {name: table.column(name).combine_chunks() for name in (*_VALUES, *known)}
            facts = json.loads(metadata[_FACTS.encode()])
            record_ids = table.column("record").to_pylist()
        except FileNotFoundError as error:
            raise UserError(f"there are no token statistics at {path}: correct the path") from error
        except (pa.ArrowException, KeyError) as error:
            raise UserError(f"{path} is no table of token statistics ({error})") from error
        for part in fields(StatisticsKey) if expected is not None else ():
            found, wanted = getattr(key, part.name), getattr(expected, part.name)
            if found != wanted:
                raise UserError(
                    f"{path} was computed from another {part.name} ({found[:12]}, expected "
                    f"{wanted[:12]}): score again or name the table that belongs to it"
                )
        lengths = torch.from_numpy(
            lists["logp"].value_lengths().to_numpy(zero_copy_only=False).copy()
        )
        columns = {
            name: torch.from_numpy(column.flatten().to_numpy(zero_copy_only=False).copy())
            for name, column in lists.items()
        }
        return cls._of(record_ids, lengths, columns, key, facts)


def record_set_hash(records: Sequence[InstructionRecord]) -> str:
    """Returns the SHA-256 of the records' ids and texts, in their order."""
    digest = hashlib.sha256()
    for record in records:
        for part in (record.id, record.instruction, record.context, record.response):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\x1f")
    return digest.hexdigest()
