"""The three tables that every audit writes: schemas, atomic part files, a deterministic merge.

An audit writes one *part* per run, step and audit. Writing it again replaces it, so a kill between
an audit and a checkpoint doubles nothing. At the end of a run the parts are merged; a reader never
meets half a file.
"""

import json
import math
import numbers
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.atomic_file import replacing
from common.errors import UserError
from common.parquet_file import CHECKED, read_parquet

Row = Mapping[str, object]

_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


_PART = "delete it to go on without that audit of that checkpoint"
_TABLE = "delete the folder that holds it, and run again"


def _columns(**columns: str) -> pa.Schema:
    """Builds a schema from `name="type"`, with a `?` after the type where null is allowed."""
    return pa.schema(
        [
            pa.field(name, _TYPES[kind.removesuffix("?")], nullable=kind.endswith("?"))
            for name, kind in columns.items()
        ]
    )


RESULTS = _columns(
    run="str",
    role="str",
    family="str?",
    size="str?",
    technique="str?",
    seed="int?",
    step="int",
    audit="str",
    population="str?",
    task="str?",
    block="int?",
    name="str",
    params="str",
    metric="str",
    value="float?",
    lower="float?",
    upper="float?",
    p_value="float?",
    run_b="str?",
    n_members="int?",
    n_nonmembers="int?",
    skipped="int?",
    shifted="bool?",
)
_RECORD_KEY = {
    "run": "str",
    "step": "int",
    "record": "str",
    "population": "str",
    "task": "str?",
    "name": "str",
    "params": "str",
}
SCORES = _columns(**_RECORD_KEY, block="int?", score="float")
MEMORIZATION = _columns(**_RECORD_KEY, value="float?", n_tokens="int?")
SCHEMAS: dict[str, pa.Schema] = {
    "results": RESULTS,
    "scores": SCORES,
    "memorization": MEMORIZATION,
}

_PYTHON_TYPES: dict[pa.DataType, tuple[type, ...]] = {
    pa.string(): (str,),
    pa.int64(): (numbers.Integral,),
    pa.float64(): (numbers.Real,),
    pa.bool_(): (bool, np.bool_),
}
_ROWS_AT_ONCE = 2048  # four times as many take 20 MB and make the file 1% smaller
_PART_NAME = re.compile(r"step=(?P<step>\d+)-audit=(?P<audit>[A-Za-z0-9_.]+)\.parquet")


def params_json(params: Mapping[str, object]) -> str:
    """Returns parameters as JSON with sorted keys, so that equal parameters are equal strings.

    >>> params_json({"tau": 0.5, "k": 0.2})
    '{"k": 0.2, "tau": 0.5}'
    """
    return json.dumps(dict(params), sort_keys=True, allow_nan=False)


def table_from_rows(table: str, rows: Iterable[Row]) -> pa.Table:
    """Builds one of the three tables from rows and checks every row against its schema.

    Args:
        table: `results`, `scores` or `memorization`.
        rows: One mapping per row. A column that does not apply may be left out where the schema
            allows null. `params` may be a mapping and defaults to no parameters.

    Returns:
        The table, columns in the order of the schema, rows in the order given.

    Raises:
        ValueError: Unknown table or column, a required column missing or null, a wrong type, or
            a NaN (what could not be measured is null).
    """
    return pa.concat_tables([_schema(table).empty_table(), *_checked_tables(table, rows)])


def _checked_tables(table: str, rows: Iterable[Row]) -> Iterator[pa.Table]:
    """Yields the rows in tables of two thousand, so that few are Python objects at once."""
    schema, numbered = _schema(table), enumerate(rows)
    while part := list(islice(numbered, _ROWS_AT_ONCE)):
        yield _checked_rows(table, schema, part)


def _checked_rows(table: str, schema: pa.Schema, rows: Sequence[tuple[int, Row]]) -> pa.Table:
    columns: dict[str, list[object]] = {name: [] for name in schema.names}
    for index, row in rows:
        unknown = sorted(set(row) - set(schema.names))
        if unknown:
            raise ValueError(f"{table} row {index}: unknown columns {unknown}")
        for field in schema:
            columns[field.name].append(_checked(table, index, field, row))
    arrays = []
    for field in schema:
        try:
            arrays.append(pa.array(columns[field.name], type=field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"{table} column {field.name!r}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=schema)


def write_part(run_dir: str | Path, table: str, step: int, audit: str, rows: Iterable[Row]) -> Path:
    """Writes one audit's rows of one step, replacing what the same audit wrote at the same step.

    Args:
        run_dir: Folder of the run.
        table: `results`, `scores` or `memorization`.
        step: Optimiser steps done, as in the rows.
        audit: Name of the part: letters, digits, `_`, `.`; two callbacks of one run need two.
        rows: See `table_from_rows`.

    Returns:
        Path of the part, `<run_dir>/parts/<table>/step=<step>-audit=<audit>.parquet`.

    Raises:
        ValueError: A row that does not fit the schema, a row of another step, or a name unfit
            for a file.
    """
    name = f"step={step}-audit={audit}.parquet"
    if not _PART_NAME.fullmatch(name):
        raise ValueError(f"step {step!r} and audit {audit!r} do not make a part name")
    path = Path(run_dir) / "parts" / table / name
    schema = _schema(table)
    with (
        replacing(path, private=_of_records(schema)) as file,
        pq.ParquetWriter(file, schema, **CHECKED) as writer,
    ):
        for content in _checked_tables(table, rows):
            steps = content.column("step").unique().to_pylist()
            if steps != [step]:
                raise ValueError(f"{table}: rows of steps {steps} in the part of step {step}")
            writer.write_table(content)
    return path


def merge_parts(run_dir: str | Path) -> dict[str, Path]:
    """Merges a run's parts into `results.parquet`, `scores.parquet` and `memorization.parquet`.

    The order of rows depends on their content alone. A table without parts is written empty, so
    that readers find all three files in every finished run.

    Returns:
        Path of each table.
    """
    run_dir = Path(run_dir)
    return {
        table: _write_merged(
            table, (read_parquet(part, _PART) for part in _parts(run_dir, table)), run_dir
        )
        for table in SCHEMAS
    }


def require_whole_parts(run_dir: str | Path) -> None:
    """Refuses a run to be gone on with that could not merge its tables at its end.

    Raises:
        UserError: A part is cut short or altered.
    """
    for table in SCHEMAS:
        for part in _parts(Path(run_dir), table):
            read_parquet(part, _PART)


def merge_runs(run_dirs: Iterable[str | Path], out_dir: str | Path) -> dict[str, Path]:
    """Merges the tables of several finished runs into one set of tables in `out_dir`.

    Raises:
        UserError: A run without tables.
    """
    folders = [Path(run_dir) for run_dir in run_dirs]
    return {
        table: _write_merged(
            table, (read_table(folder, table) for folder in folders), Path(out_dir)
        )
        for table in SCHEMAS
    }


def read_table(run_dir: str | Path, table: str) -> pa.Table:
    """Reads a merged table of a run or a study.

    Raises:
        UserError: The file is missing or has other columns than this version writes.
        ValueError: Unknown table name.
    """
    schema = _schema(table)
    path = Path(run_dir) / f"{table}.parquet"
    if not path.is_file():
        raise UserError(f"{path}: no such table; it is written when a run's fit or validate ends")
    content = read_parquet(path, _TABLE)
    if content.schema.names != schema.names:
        wrong = sorted(set(content.schema.names) ^ set(schema.names))
        raise UserError(
            f"{path}: columns differ from this version's in {wrong}; run the audit again"
        )
    return content.cast(schema)


def write_table(content: pa.Table, path: str | Path) -> None:
    """Writes a Parquet file so that readers see the old file or the new one, never a part of it.

    A table of single records, which says who is a member, is its owner's alone.
    """
    with replacing(Path(path), private=_of_records(content.schema)) as file:
        pq.write_table(content, file, **CHECKED)


def _of_records(schema: pa.Schema) -> bool:
    return "record" in schema.names


def _schema(table: str) -> pa.Schema:
    if table not in SCHEMAS:
        raise ValueError(f"unknown table {table!r}; expected one of {sorted(SCHEMAS)}")
    return SCHEMAS[table]


def _checked(table: str, index: int, field: pa.Field, row: Row) -> object:
    value = row.get(field.name)
    if field.name == "params":
        return _params(value)
    if value is None:
        if not field.nullable:
            raise ValueError(f"{table} row {index}: column {field.name!r} is missing or null")
        return None
    # Arrow alone would cut 1.5 to 1 where a column holds integers.
    expected = _PYTHON_TYPES[field.type]
    if not isinstance(value, expected) or (
        isinstance(value, bool) and not field.type == pa.bool_()
    ):
        raise ValueError(
            f"{table} row {index}: column {field.name!r} holds {field.type}, found {value!r}"
        )
    if isinstance(value, numbers.Real) and math.isnan(value):
        raise ValueError(
            f"{table} row {index}: NaN in {field.name!r}; what is not measured is null"
        )
    return value


def _params(value: object) -> str:
    if isinstance(value, str):
        value = json.loads(value)
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        raise ValueError(f"params must be a mapping, found {value!r}")
    return params_json(value)


def _parts(run_dir: Path, table: str) -> list[Path]:
    folder = run_dir / "parts" / table
    if not folder.is_dir():
        return []
    found = [
        (match, path) for path in folder.iterdir() if (match := _PART_NAME.fullmatch(path.name))
    ]
    return [path for match, path in sorted(found, key=lambda p: (int(p[0]["step"]), p[0]["audit"]))]


def _write_merged(table: str, contents: Iterable[pa.Table], out_dir: Path) -> Path:
    schema = _schema(table)
    merged = pa.concat_tables([schema.empty_table(), *(part.cast(schema) for part in contents)])
    merged = merged.sort_by([(name, "ascending") for name in schema.names])
    path = out_dir / f"{table}.parquet"
    write_table(merged, path)
    return path
