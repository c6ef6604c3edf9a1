"""A small study: its folder of fragments, and what it leaves once every cell is done."""

from pathlib import Path

from audits.results import read_table
from datamodules.manifest import write_manifest
from datamodules.records import InstructionRecord
from datamodules.splits import Placement
from studies.plan.cells import Plan
from studies.run.cell_state import CellFiles
from tests.studies.planted import write_planted

STUDY = """\
name: small
title: A small study
description: For a test.
data: tiny
families:
  - {teacher: mini, sizes: [tiny]}
techniques: [kd]
controls: [control, counterfactual]
audits: [membership]
"""
FRAGMENTS = {
    "base": ("teacher", "counterfactual_teacher", "control", "init", "student"),
    "data": ("tiny",),
    "families": ("mini", "tiny"),
    "techniques": ("kd", "gkd"),
    "audits": ("membership",),
    "recipes/teacher": ("mini",),
}


def write_project(folder: Path) -> None:
    """Writes `configs/`, records and the study file `configs/studies/small.yaml`."""
    for kind, names in FRAGMENTS.items():
        for name in names:
            path = folder / "configs" / kind / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# {kind}\nmodel:\n  {name}_{path.parent.name}: 1\n")
    (folder / "records.jsonl").write_text('{"instruction": "a"}\n')
    (folder / "configs/data/tiny.yaml").write_text("data:\n  source: ./records.jsonl\n")
    study = folder / "configs/studies/small.yaml"
    study.parent.mkdir()
    study.write_text(STUDY)


def finish(plan: Plan) -> None:
    """Writes a planted leak, an export and its states for every cell."""
    for cell in plan.cells:
        files = CellFiles(cell)
        write_planted(files.folder, cell.alias, cell.role, cell.seed)
        (files.folder / "export").mkdir()
        (files.folder / "export" / "model.txt").write_text(cell.alias)
        files.write("done", {"seconds": 75.0, "versions": {"torch": "2"}, "machine": "x86"})


def write_manifests(plan: Plan, out: Path, *, subject: bool) -> None:
    """Puts six records of the tables in `out` into a cluster, or makes them a subject's."""
    scores = read_table(out, "scores").to_pandas()
    records = scores.drop_duplicates("record")
    placed = zip(records["record"], records["population"], strict=True)
    rows = []
    for number, (record, population) in enumerate(placed):
        named = f"person {number // 6}" if subject else None
        text = InstructionRecord(record, "", "", record, "open_qa", "", subject=named)
        rows.append(Placement(text, record, population, "audit", f"c {number // 6}", None, None))
    for cell in plan.cells:
        write_manifest(rows, Path(cell.run_dir) / "private")
