"""Parquet files that are read whole, or refused by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError, first_line

CHECKED = {"compression": "zstd", "write_page_checksum": True}
"""How files of ours are written: what befalls a page of one afterwards is told when it is read."""


def read_parquet(path: Path, advice: str, schema: pa.Schema | None = None) -> pa.Table:
    """Reads a file that a run of ours wrote.

    Args:
        path: The file.
        advice: How to go on without it.
        schema: What it has to hold; None takes what is there.

    Raises:
        UserError: It is cut short or altered, or no Parquet file.
    """
    with _named(path, advice):
        return pq.read_table(path, schema=schema, page_checksum_verification=True)


def require_whole(path: Path, advice: str) -> None:
    """Refuses a file that is cut short; none of its rows is read.

    Raises:
        UserError: As `read_parquet`.
    """
    with _named(path, advice):
        pq.read_metadata(path)


@contextmanager
def _named(path: Path, advice: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"{path} cannot be read whole ({first_line(error)}): {advice}") from error
