"""Keeps what a finished study found, without its weights and without its texts.

`python -m benchmarks.pretrained RUN_DIR` reads a study of weights that were really pretrained, and
keeps under `results/smollm2/<its name>/`:

- `*.csv`, the tables of the page that `kd-study report` wrote, and `heat.png`, its chart of every
  attack on every model;
- `plan.json` and `cells/`: `kd-study claims FILE --run_dir results/smollm2/<its name>` judges them
  as it judges the study itself, and a copy of that folder is a study that `kd-study run` goes on
  with.
"""

import argparse
import shutil
from pathlib import Path

from audits.results import SCHEMAS
from common.errors import UserError
from common.own_files import read_json
from studies.plan.cells import Plan
from studies.run.cell_state import CellFiles, write_json

RESULTS = Path(__file__).parent / "results" / "smollm2"
_ROOT = Path(__file__).resolve().parents[1]
_OF_A_CELL = (
    "config.yaml",
    "private/manifest.parquet",
    "export/README.md",
    *(f"{table}.parquet" for table in SCHEMAS),
)


def keep(run_dir: Path, results: Path = RESULTS) -> Path:
    """Copies a study's tables, plan and finished cells, replacing what was kept of it before.

    Args:
        run_dir: The study's folder, with a report.
        results: Where the folder that bears the study's name is made.

    Returns:
        That folder.

    Raises:
        UserError: The study has no plan or no report, or is what was kept before.
    """
    tables = run_dir / "report" / "tables"
    if not ((run_dir / "plan.json").is_file() and tables.is_dir()):
        raise UserError(f"{tables}: no such folder; `kd-study report` writes it")
    plan = Plan.from_dict(read_json(run_dir / "plan.json", "run the study"))
    kept = results / plan.name
    if kept.resolve() == run_dir.resolve():
        raise UserError(f"{kept} is what was kept of a study: give the study itself")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    # Folders of the machine that ran it are written as those of whoever runs it again.
    here = {str(run_dir.resolve()): f"runs/{plan.name}", f"{_ROOT}/": ""}
    for part in (run_dir / "plan.json", *tables.glob("*.csv")):
        text = part.read_text(encoding="utf-8")
        for folder, name in here.items():
            text = text.replace(folder, name)
        (kept / part.name).write_text(text, encoding="utf-8")
    for chart in (run_dir / "report" / "figures").glob("heat.png"):
        shutil.copy(chart, kept)
    for cell in plan.moved_to(run_dir).cells:
        if CellFiles(cell).state() == "done":
            _keep_cell(Path(cell.run_dir), kept / "cells" / Path(cell.run_dir).name)
    return kept


def _keep_cell(cell: Path, kept: Path) -> None:
    for name in _OF_A_CELL:
        if not (cell / name).is_file():
            continue
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cell / name, kept / name)
    # Its command names folders too; the plan has it.
    state = read_json(cell / "state.json", "run the study")
    write_json(kept / "state.json", {key: state[key] for key in state if key != "command"})


def main() -> None:
    """Keeps a study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path, help="a study that was reported")
    try:
        keep(parser.parse_args().run_dir)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
