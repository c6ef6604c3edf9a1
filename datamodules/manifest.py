"""The manifest: which record went where, without a word of its text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.atomic_file import replacing
from common.errors import UserError
from common.parquet_file import CHECKED, read_parquet
from datamodules.splits import Placement

MANIFEST_NAME = "manifest.parquet"
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("id", "content", "split", "role", "cluster", "task"), pa.string()),
        "coin": pa.int8(),
        "part": pa.int16(),
        "subject": pa.string(),
    }
)

_OF_RECORD = ("id", "task", "subject")


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One record of a manifest; the fields are those of `Placement` and its record."""

    id: str
    content: str
    split: str
    role: str
    cluster: str
    task: str
    coin: int | None
    part: int | None
    subject: str | None = None


def write_manifest(placements: Sequence[Placement], folder: Path) -> Path:
    """Writes `manifest.parquet`, which appears whole or not at all and only its owner can read.

    Args:
        placements: what `split_records` returned.
        folder: created with mode 0700 where it is missing.

    Returns:
        The file's path.
    """
    columns = {
        name: [getattr(p.record if name in _OF_RECORD else p, name) for p in placements]
        for name in _SCHEMA.names
    }
    path = folder / MANIFEST_NAME
    with replacing(path, private=True) as file:
        pq.write_table(pa.table(columns, schema=_SCHEMA), file, **CHECKED)
    return path


def read_manifest(path: Path) -> list[ManifestRow]:
    """Rows of a manifest in the order of the records.

    Raises:
        UserError: the file is missing or is no manifest.
    """
    table = read_parquet(path, "no manifest can be read")
    if table.schema.names not in (_SCHEMA.names, _SCHEMA.names[:-1]):  # before there were subjects
        raise UserError(f"{path}: not a manifest; its columns are {', '.join(table.schema.names)}")
    return [ManifestRow(**row) for row in table.to_pylist()]
