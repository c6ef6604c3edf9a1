"""A study's tables: the merge of its cells' tables, and the rows that compare two runs."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from audits.results import merge_runs, read_table, table_from_rows, write_table
from studies.compare.comparisons import attack_scores, comparison_rows
from studies.compare.decomposition import decomposition_rows
from studies.compare.disagreement import disagreement_rows, overlap_rows
from studies.compare.extraction import extraction_rows
from studies.compare.memorization import memorization_rows, read_accuracies
from studies.compare.primary_attack import primary_attack
from studies.compare.probe_differences import probe_difference_rows
from studies.compare.relative_leakage import relative_leakage_rows
from studies.compare.shown_techniques import as_they_ran, mechanisms_of
from studies.compare.task_rows import task_rows
from studies.plan.cells import Cell, Plan
from studies.run.cell_state import CellFiles

__all__ = ["write_study_tables"]


def write_study_tables(plan: Plan, out: Path) -> list[Cell]:
    """Writes `results.parquet`, `scores.parquet` and `memorization.parquet` of a study.

    The results are those of the finished cells and, after them, the rows that compare two runs:
    `auroc_difference` (run minus run_b, on the same records), `swap_estimate`, and the attacks
    `inherited` and `control_reference`, which read the scores of both; where students were
    fine-tuned on the private records themselves, `relative_leakage`. Where blocks were probed,
    `probe_difference` at each of them. Where memorization was measured, also what of it came
    through the teacher, whether it agrees with membership, and what tasks differ by at equal
    numbers of records and lengths of responses.

    Returns:
        The cells that are done.
    """
    done = [cell for cell in plan.cells if CellFiles(cell).state() == "done"]
    merge_runs([cell.run_dir for cell in done], out)
    results = read_table(out, "results")
    mechanisms = mechanisms_of(results.to_pandas())
    done = list(as_they_ran(replace(plan, cells=tuple(done)), mechanisms).cells)
    every_score = read_table(out, "scores").to_pandas()
    scores = attack_scores(every_score)
    rows = [
        *comparison_rows(done, results, scores),
        *relative_leakage_rows(done, results, scores),
        *probe_difference_rows(done, results, every_score),
    ]
    memorization = read_table(out, "memorization").to_pandas()
    rows += extraction_rows(done, results, memorization)
    rows += task_rows(done, results, every_score, scores, memorization)
    attack = primary_attack(results.select(["name", "params"]).to_pandas())
    for accuracies in read_accuracies(done, results, memorization):
        rows += memorization_rows(accuracies)
        rows += decomposition_rows(accuracies)
        rows += overlap_rows(accuracies, scores, attack)
        rows += list(disagreement_rows(accuracies, rows, attack))
    write_table(
        pa.concat_tables([results, table_from_rows("results", rows)]), out / "results.parquet"
    )
    return done
