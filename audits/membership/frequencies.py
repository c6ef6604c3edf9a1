"""How often each token occurs in a corpus: what a text is worth without any model."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from audits.membership.measurements import Measurement
from audits.results import write_table
from common.errors import UserError
from common.parquet_file import read_parquet
from datamodules.plain_documents import DocumentEnd, PlainDocuments
from datamodules.plain_text import packed_blocks
from datamodules.synthetic import BUILTIN

_BLOCK_TOKENS = 512


@dataclass(frozen=True)
class TokenFrequencies(Measurement):
    """Log-frequencies of the audited model's tokens in plain text, add-one smoothed.

    Attributes:
        sources: UTF-8 text files, hub names, or "builtin", as `datamodules.plain_text` reads them.
        max_blocks: Most blocks of 512 tokens that are counted; None counts everything.
        documents: What ends a document in a text file.
        hub_split: Split of a hub data set.
        text_field: Text column of a hub data set.
    """

    sources: tuple[str, ...] = (BUILTIN,)
    max_blocks: int | None = 1000
    documents: DocumentEnd = "blank_line"
    hub_split: str = "train"
    text_field: str = "text"

    @property
    def label(self) -> str:
        """For instance "token frequencies of builtin"."""
        return f"token frequencies of {', '.join(self.sources)}"

    @property
    def passes(self) -> float:
        """None: no model runs."""
        return 0.0

    def measure(self, tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """Counts the corpus, once per process and tokenizer.

        Args:
            tokenizer: The audited model's.

        Returns:
            log((count + 1) / (tokens counted + V)) for each of the V tokens, [V] float64.

        Raises:
            UserError: As `packed_blocks` does, and for text without an end and no ``max_blocks``.
        """
        return _log_frequencies(self, tokenizer)


def save_frequencies(log_frequencies: Tensor, path: Path) -> None:
    """Writes log-frequencies, [V] float64, as Parquet, one row per token id; atomically."""
    write_table(pa.table({"log_frequency": log_frequencies.numpy()}), path)


def load_frequencies(path: Path) -> Tensor:
    """Reads what :func:`save_frequencies` wrote, [V] float64."""
    column = read_parquet(path, "delete the folder and audit again").column("log_frequency")
    return torch.tensor(column.to_numpy(), dtype=torch.float64)


@lru_cache(maxsize=2)
def _log_frequencies(request: TokenFrequencies, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    documents = PlainDocuments(
        request.sources, request.documents, request.hub_split, request.text_field
    )
    if documents.endless and request.max_blocks is None:
        raise UserError("the built-in plain text has no end: give max_blocks")
    counts = torch.zeros(len(tokenizer), dtype=torch.int64)
    for blocks in packed_blocks(documents, tokenizer, _BLOCK_TOKENS, request.max_blocks):
        counts += torch.from_numpy(blocks).flatten().bincount(minlength=len(tokenizer))
    return ((counts.double() + 1) / (counts.sum() + len(counts))).log()
