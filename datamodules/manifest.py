"""The manifest: which record went where, without a word of its text."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError
from datamodules.splits import Placement

MANIFEST_NAME = "manifest.parquet"
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("content", pa.string()),
        ("split", pa.string()),
        ("role", pa.string()),
        ("cluster", pa.string()),
        ("task", pa.string()),
        ("coin", pa.int8()),
        ("part", pa.int16()),
    ]
)


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One record of a manifest; the fields are those of `Placement`."""

    id: str
    content: str
    split: str
    role: str
    cluster: str
    task: str
    coin: int | None
    part: int | None


def write_manifest(placements: Sequence[Placement], folder: Path) -> Path:
    """Writes `manifest.parquet`: a temporary file beside it, then one rename.

    Args:
        placements: what `split_records` returned.
        folder: created with mode 0700 where it is missing.

    Returns:
        The file's path.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    rows = [
        {
            "id": p.record.id,
            "content": p.content,
            "split": p.split,
            "role": p.role,
            "cluster": p.cluster,
            "task": p.record.task,
            "coin": p.coin,
            "part": p.part,
        }
        for p in placements
    ]
    path = folder / MANIFEST_NAME
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=MANIFEST_NAME)
    os.close(handle)
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), temporary)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def read_manifest(path: Path) -> list[ManifestRow]:
    """Rows of a manifest in the order of the records.

    Raises:
        UserError: the file is missing or is no manifest.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: no readable manifest") from error
    if table.schema.names != _SCHEMA.names:
        raise UserError(f"{path}: not a manifest; its columns are {', '.join(table.schema.names)}")
    return [ManifestRow(**row) for row in table.to_pylist()]
