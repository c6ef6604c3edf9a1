"""Rows out of files: every row with the place where a user finds it, every fault with the same."""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError, first_line
from common.options import given_path
from datamodules.record_fields import told_fields
from datamodules.sources import hub_is_there, place_of
from datamodules.strict_json import AmbiguousJsonError, parse_json

Row = tuple[str, Mapping[str, object]]
"""Where the row stands ("file.jsonl:12") and its fields."""

FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_GZIP = ".gz"
_DELIMITERS = ",;\t"


def read_rows(
    source: str, hub_split: str, streaming: bool = False, max_rows: int | None = None
) -> list[Row]:
    """Rows of a file, a `datasets` folder or a hub data set, in their order.

    Args:
        source: path of a .jsonl, .json, .csv (each also with .gz) or .parquet file, folder written
            by `save_to_disk`, or hub name.
        hub_split: split to take where the source has several.
        streaming: take the rows of a hub data set as they come, without a copy on disk.
        max_rows: the first so many; None takes all.

    Raises:
        UserError: missing or unreadable source, wrong encoding, invalid JSON or CSV, with file and
            line; a stream without an end.
    """
    if streaming and max_rows is None:
        raise UserError("streaming is true: say by max_rows how many records to read")
    if max_rows is not None and max_rows < 1:
        raise UserError(f"max_rows is {max_rows}: give 1 or more")
    path = given_path(source)
    if path.is_dir():
        rows: Iterable[Row] = _folder_rows(path, hub_split)
    elif _suffix(path) in FILE_SUFFIXES:
        rows = _file_rows(path, source)
    elif path.exists():
        raise UserError(
            f"{source}: unknown kind of file; give one of {', '.join(FILE_SUFFIXES)}, all but "
            f".parquet also with {_GZIP}"
        )
    elif place_of(source).looks_like_a_path:
        raise UserError(f"{source}: no such file or folder (looked for {path.absolute()})")
    else:
        rows = _hub_rows(source, hub_split, streaming)
    return list(islice(rows, max_rows))


def _suffix(path: Path) -> str:
    """What a file holds, whether it is compressed or not."""
    name = path.name.lower()
    return Path(name.removesuffix(_GZIP)).suffix


def _file_rows(path: Path, source: str) -> Iterable[Row]:
    if not path.is_file():
        raise UserError(f"{source}: no such file (looked for {path.absolute()})")
    suffix = _suffix(path)
    try:
        if suffix == ".parquet":
            return _parquet_rows(path, source)
        content = path.read_bytes()
        if path.name.lower().endswith(_GZIP):
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{source}: not a whole gzip file: {first_line(error)}") from error
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror}") from error
    lines = list(decoded_lines(io.BytesIO(_as_utf8(content, source)), source))
    if suffix == ".jsonl":
        return _jsonl_rows(lines, source)
    return _json_rows("".join(lines), source) if suffix == ".json" else _csv_rows(lines, source)


def _as_utf8(content: bytes, source: str) -> bytes:
    """The bytes of a file in UTF-8; only a mark at its beginning tells of another encoding."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise UserError(f"{source}: is in UTF-32; save the file as UTF-8")
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content
    try:
        return content.decode("utf-16").encode("utf-8")
    except UnicodeError as error:
        raise UserError(f"{source}: begins as UTF-16 and is none; save it as UTF-8") from error


def decoded_lines(content: Iterable[bytes], source: str) -> Iterator[str]:
    r"""UTF-8 lines with their ends; only \n ends a line, so that line numbers are an editor's.

    Args:
        content: lines of bytes, such as a file opened in binary mode.
        source: what errors call it.

    Raises:
        UserError: bytes that are not UTF-8, with line, byte in the line and byte in the file.
    """
    offset = 0
    for number, whole in enumerate(content, start=1):
        line = whole.removeprefix(codecs.BOM_UTF8) if number == 1 else whole
        offset += len(whole) - len(line)
        try:
            decoded = line.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = offset + error.start
            raise UserError(
                f"{source}:{number}: byte {byte} of the file (0x{line[error.start]:02x}) is not "
                "UTF-8; save the file as UTF-8"
            ) from error
        yield decoded
        offset += len(line)


def _jsonl_rows(lines: list[str], source: str) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            origin = f"{source}:{number}"
            yield origin, _checked_object(_parsed(line.rstrip(), source, number), origin)


def _json_rows(text: str, source: str) -> Iterator[Row]:
    rows = _parsed(text, source)
    if not isinstance(rows, list):
        raise UserError(f"{source}: expected one list of records; for a record per line use .jsonl")
    for number, row in enumerate(rows, start=1):
        origin = f"{source}:row {number}"
        yield origin, _checked_object(row, origin)


def _parsed(text: str, source: str, line: int = 1) -> object:
    """The value of a JSON text that begins at a line of the source."""
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        where = f"{source}:{line + error.lineno - 1}: invalid JSON at column {error.colno}"
        raise UserError(f"{where}: {error.msg}") from error
    except AmbiguousJsonError as error:
        raise UserError(f"{source}:{line}: {error}") from error


def _csv_rows(lines: list[str], source: str) -> Iterator[Row]:
    # JSON may have cells of any length, so CSV may; the limit is the process's.
    limit = csv.field_size_limit(max(sum(map(len, lines)), csv.field_size_limit()))
    reader = csv.reader(
        io.StringIO("".join(lines), newline=""), strict=True, delimiter=_delimiter(lines)
    )
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            origin, line = f"{source}:{line}", reader.line_num + 1
            if header is None:
                header = _checked_header(cells, origin)
            elif cells:
                if len(cells) != len(header):
                    raise UserError(
                        f"{origin}: {len(cells)} cells where the header has {len(header)}"
                    )
                yield origin, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{source}:{reader.line_num}: invalid CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _delimiter(lines: list[str]) -> str:
    """What parts the cells: the first of , ; and tab that parts the names of the header.

    Spreadsheets of many languages write ";". A wrong guess cannot pass: a record's fields are known
    by their names.
    """
    header = next((line for line in lines if line.strip()), "")
    counts = {one: len(next(csv.reader([header], delimiter=one), [])) for one in _DELIMITERS}
    return next((one for one in _DELIMITERS if counts[one] > 1), ",")


def _checked_header(cells: list[str], origin: str) -> list[str]:
    repeated = sorted({cell for cell in cells if cells.count(cell) > 1})
    if repeated:
        raise UserError(f"{origin}: the header names {told_fields(repeated)} more than once")
    return cells


def _checked_object(row: object, origin: str) -> Mapping[str, object]:
    if not isinstance(row, dict):
        raise UserError(
            f"{origin}: expected an object with named fields, found {type(row).__name__}"
        )
    return row


def _parquet_rows(path: Path, source: str) -> list[Row]:
    try:
        table = pq.read_table(path)
        names = table.column_names
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"{source}: {told_fields(set(twice))} is there more than once")
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        # Such as text that is not UTF-8, or a time beyond the calendar.
        raise UserError(f"{source}: not a readable Parquet file: {first_line(error)}") from error
    return [(f"{source}:row {i}", row) for i, row in enumerate(rows, start=1)]


def _folder_rows(path: Path, hub_split: str) -> Iterator[Row]:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
        if isinstance(loaded, datasets.DatasetDict):
            if hub_split not in loaded:
                raise UserError(f"{path}: no split {hub_split!r}; it has {', '.join(loaded)}")
            loaded = loaded[hub_split]
        for i, row in enumerate(loaded, start=1):
            yield f"{path}[{hub_split}]:row {i}", row
    except UserError:
        raise
    except Exception as error:  # files that are damaged, each library with faults of its own
        raise UserError(
            f"{path}: not a folder written by datasets' save_to_disk, or not a whole one "
            f"({type(error).__name__})"
        ) from error


def _hub_rows(name: str, hub_split: str, streaming: bool) -> Iterator[Row]:
    import datasets

    options = {"streaming": True} if streaming else {}
    if not hub_is_there():
        # What was fetched before is still read, and nobody is asked for half a minute.
        datasets.config.HF_HUB_OFFLINE = True
    try:
        loaded = datasets.load_dataset(name, split=hub_split, **options)
        for i, row in enumerate(loaded, start=1):
            yield f"{name}[{hub_split}]:row {i}", row
    except Exception as error:  # the hub client has no common base class of its own for its faults
        raise UserError(
            f"{name}: neither a file or folder here nor a data set (split {hub_split!r}) that the "
            f"hub gives: {type(error).__name__}: {first_line(error)}"
        ) from error
