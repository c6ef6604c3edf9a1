"""What a model wrote in place of its members' responses, kept for a report that reveals it.

The file holds token ids of private prompts and responses, so it lies in the run's private folder
and nowhere else; the exported tokenizer turns them into text.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from audits.memorization.greedy_continuation import GreedyContinuation, Request
from audits.results import write_table
from common.atomic_file import make_private
from common.parquet_file import read_parquet
from datamodules.encoding import EncodedRecord

CONTINUATIONS_NAME = "continuations.parquet"
_IDS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    [
        ("record", pa.string()),
        ("population", pa.string()),
        ("prompt_ids", _IDS),
        ("true_ids", _IDS),
        ("written_ids", _IDS),
    ]
)


@dataclass(frozen=True, slots=True)
class Continuation:
    """A member's true response beside the model's own, both from the first token on.

    Attributes:
        record: Id of the record.
        population: Whose member it is.
        prompt_ids: The prompt.
        true_ids: The first tokens of the response, as many as were asked of the model.
        written_ids: What greedy decoding writes after the prompt; fewer where eos ends it.
    """

    record: str
    population: str
    prompt_ids: tuple[int, ...]
    true_ids: tuple[int, ...]
    written_ids: tuple[int, ...]

    @property
    def matches(self) -> list[bool]:
        """Whether the model wrote each true token at its place."""
        written = (*self.written_ids, *[None] * len(self.true_ids))
        return [own == true for own, true in zip(written, self.true_ids, strict=False)]


def continuations(
    population: str,
    continued: Sequence[GreedyContinuation],
    requests: Callable[[EncodedRecord], Sequence[Request]],
) -> list[Continuation]:
    """Returns what was written after each prompt, as far as the metrics asked for it.

    Args:
        population: Name of the population.
        continued: Its records.
        requests: The greedy text that the metrics read of a record. A record of which none is read
            from the prompt alone is left out.
    """
    found = []
    for greedy in continued:
        record = greedy.record
        asked = [one for one in requests(record) if one.prefix_tokens == 0]
        if asked:
            longest = max(asked, key=lambda one: one.tokens)
            own = greedy.greedy(longest)
            true = record.response_ids[: longest.tokens]
            found.append(Continuation(record.record_id, population, record.prompt_ids, true, own))
    return found


def write_continuations(found: Sequence[Continuation], folder: Path) -> Path:
    """Writes the file of the last audit over that of the one before.

    Args:
        found: What was written.
        folder: The run's private folder; created with mode 0700 where it is missing.
    """
    make_private(folder)
    path = folder / CONTINUATIONS_NAME
    write_table(pa.Table.from_pylist([asdict(one) for one in found], schema=_SCHEMA), path)
    return path


def read_continuations(folder: Path, population: str) -> dict[str, Continuation]:
    """Returns a population's continuations by record; empty where none were kept.

    Args:
        folder: A run's private folder.
        population: Whose members.

    Raises:
        UserError: If the file cannot be read.
    """
    path = folder / CONTINUATIONS_NAME
    if not path.is_file():
        return {}
    rows = read_parquet(path, "run the memorization audit again", _SCHEMA).to_pylist()
    return {
        row["record"]: Continuation(
            row["record"],
            row["population"],
            *(tuple(row[name]) for name in ("prompt_ids", "true_ids", "written_ids")),
        )
        for row in rows
        if row["population"] == population
    }
