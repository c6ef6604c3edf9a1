"""How records become tokens in an audit from Python or the command: template, score, columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from audits.scoring.token_statistics import SHARD_RECORDS, shard_places
from common.errors import UserError
from datamodules.batches import RecordEncoder
from datamodules.prompts import ALPACA, PromptTemplate
from datamodules.records import InstructionRecord


def require_score(score: str) -> None:
    """Refuses a choice of scored tokens that there is none of.

    Raises:
        UserError: Naming it.
    """
    if score != "assistant":
        raise UserError(f"score is {score!r}: assistant is the one that an audit knows")


def require_columns(columns: Mapping[str, str] | None) -> None:
    """Refuses fields under other names.

    Raises:
        UserError: Naming them.
    """
    if columns:
        named = ", ".join(f"{name}={column}" for name, column in columns.items())
        raise UserError(f"columns is {named}: an audit reads fields by their own names alone")


def chosen_template(
    name: str | None,
    records: Sequence[InstructionRecord],
    tokenizer: PreTrainedTokenizerBase | None,
) -> PromptTemplate:
    """Returns the template of a name; None takes the one that fits the records.

    Args:
        name: alpaca.
        records: What it is to render.
        tokenizer: Whose own template may be asked for.

    Raises:
        UserError: There is none of that name.
    """
    del records, tokenizer
    if name not in (None, "alpaca"):
        raise UserError(f"template is {name!r}: alpaca is the one that an audit knows")
    return ALPACA


def template_name(name: str | None) -> str:
    """Returns what `chosen_template` chose, in a word."""
    return name or "alpaca"


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
