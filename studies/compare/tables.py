"""A study's tables: the merge of its cells' tables, and the rows that compare its runs.

`comparisons.parquet` is written last and bears a stamp: a digest of what the tables were made from.
While that is the same, they are read and nothing is computed again.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from audits.results import SCHEMAS, Row, merge_runs, read_table, table_from_rows, write_table
from studies.compare.comparisons import attack_scores, comparison_rows, subject_scores
from studies.compare.decomposition import decomposition_rows
from studies.compare.disagreement import disagreement_rows, overlap_rows
from studies.compare.extraction import extraction_rows
from studies.compare.memorization import memorization_rows, read_accuracies
from studies.compare.primary_attack import primary_attack
from studies.compare.probe_differences import probe_difference_rows
from studies.compare.record_clusters import manifest_of
from studies.compare.relative_leakage import relative_leakage_rows
from studies.compare.shown_techniques import as_they_ran, mechanisms_of
from studies.compare.single_records import single_record_rows
from studies.compare.task_rows import task_rows
from studies.plan.cells import Cell, Plan
from studies.run.cell_state import CellFiles

COMPARISONS = "comparisons.parquet"
_STAMP = b"made_from"
_TABLES = tuple(f"{name}.parquet" for name in SCHEMAS)
_PACKAGES = Path(__file__).parents[2]


def write_study_tables(plan: Plan, out: Path) -> list[Cell]:
    """Brings a study's four tables up to date; where nothing changed, writes and computes nothing.

    `scores.parquet` and `memorization.parquet` are those of the finished cells. Rows that compare
    runs are in `comparisons.parquet`: `auroc_difference` (run minus run_b, on the same records),
    `swap_estimate`, and the attacks `inherited` and `control_reference`, which read the scores of
    both; where students were fine-tuned on the private records themselves, `relative_leakage`.
    Where blocks were probed, `probe_difference` at each of them. Where memorization was measured,
    also what of it came through the teacher, whether it agrees with membership, and what tasks
    differ by at equal numbers of records and lengths of responses. `results.parquet` holds the
    results of the finished cells and, after them, the rows of `comparisons.parquet`.

    Returns:
        The cells that are done.
    """
    done = [cell for cell in plan.cells if CellFiles(cell).state() == "done"]
    sources = _sources(done)
    with _only_writer(out):
        if _stamp_of(out) != _stamp(sources, out):
            merge_runs([cell.run_dir for cell in done], out)
            own = read_table(out, "results")
            derived = table_from_rows("results", _derived_rows(plan, done, own, out))
            write_table(pa.concat_tables([own, derived]), out / "results.parquet")
            stamped = derived.replace_schema_metadata({_STAMP: _stamp(sources, out)})
            write_table(stamped, out / COMPARISONS)
    return done


@contextmanager
def _only_writer(out: Path) -> Iterator[None]:
    """Waits while another process writes the tables: shards of a study end at the same time."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".tables.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _derived_rows(plan: Plan, done: Sequence[Cell], results: pa.Table, out: Path) -> list[Row]:
    """Returns the rows of every comparison, from the merged tables."""
    mechanisms = mechanisms_of(results.to_pandas())
    done = as_they_ran(replace(plan, cells=tuple(done)), mechanisms).cells
    every_score = read_table(out, "scores").to_pandas()
    scores = attack_scores(every_score)
    with_subjects = subject_scores(done, scores)
    rows: list[Row] = [
        *comparison_rows(done, results, with_subjects),
        *relative_leakage_rows(done, results, with_subjects),
        *probe_difference_rows(done, results, every_score),
    ]
    memorization = read_table(out, "memorization").to_pandas()
    rows += extraction_rows(done, results, memorization)
    rows += single_record_rows(done, results, memorization)
    rows += task_rows(done, results, every_score, scores, memorization)
    attack = primary_attack(results.select(["name", "params"]).to_pandas())
    for accuracies in read_accuracies(done, results, memorization):
        rows += memorization_rows(accuracies)
        rows += decomposition_rows(accuracies)
        rows += overlap_rows(accuracies, scores, attack)
        rows += list(disagreement_rows(accuracies, rows, attack))
    return rows


def _sources(done: Sequence[Cell]) -> list[object]:
    """Returns what a study's tables are made from: code, cells, and the files they left."""
    cells = [
        [
            {name: value for name, value in asdict(cell).items() if name != "run_dir"},
            [_trace(Path(cell.run_dir) / name) for name in _TABLES],
            _trace(manifest_of(cell)),
        ]
        for cell in done
    ]
    return [_code_digest(), cells]


def _stamp(sources: list[object], out: Path) -> str:
    """Returns a digest of the sources and of the merged tables as they lie in a study's folder."""
    text = json.dumps([sources, [_trace(out / name) for name in _TABLES]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp_of(out: Path) -> str | None:
    """Returns the stamp of the comparisons in a study's folder; None where none can be read."""
    path = out / COMPARISONS
    if not path.is_file():
        return None
    try:
        return (pq.read_schema(path).metadata or {}).get(_STAMP, b"").decode()
    except (pa.ArrowInvalid, OSError):
        return None  # cut short: it is computed again


def _trace(path: Path) -> tuple[int, int, int] | None:
    """Returns a file's size and times, which tell one content from another.

    A copy may be given the time of its contents (`cp -p`, `rsync -t`), but not that of its inode.
    """
    if not path.is_file():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


@cache
def _code_digest() -> str:
    """Returns a digest of the code that rows are computed by: another version may give others."""
    digest = hashlib.sha256(" ".join(map(version, ("numpy", "pandas", "scipy"))).encode())
    for folder in ("audits", "common", "datamodules", "studies/compare", "studies/plan"):
        for path in sorted((_PACKAGES / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
