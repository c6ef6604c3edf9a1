"""What the records of an audit come to in tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from audits.scoring.token_statistics import SHARD_RECORDS, shard_places
from datamodules.batches import RecordEncoder
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class Load:
    """What the tokens of some records come to.

    Attributes:
        records: Records that can be scored.
        empty: Records without a response, which are skipped.
        tokens: Tokens of the former.
        cut: Records that lost a part of prompt or response to the limits.
        merged: Records whose prompt and response share a token.
    """

    records: int
    empty: int
    tokens: int
    cut: int
    merged: int

    @classmethod
    def of(cls, records: Sequence[InstructionRecord], encoder: RecordEncoder) -> "Load":
        """Counts what an encoder makes of records, some hundred of them in memory at a time."""
        answered = [record for record in records if record.response]
        tokens = cut = merged = 0
        for places in shard_places(len(answered), SHARD_RECORDS):
            first, last = int(places[0]), int(places[-1])
            for encoded in encoder.encode_all(answered[first : last + 1]):
                tokens += len(encoded)
                cut += encoded.prompt_cut or encoded.response_cut
                merged += encoded.boundary_merged
        return cls(len(answered), len(records) - len(answered), tokens, cut, merged)

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.records + other.records,
            self.empty + other.empty,
            self.tokens + other.tokens,
            self.cut + other.cut,
            self.merged + other.merged,
        )
