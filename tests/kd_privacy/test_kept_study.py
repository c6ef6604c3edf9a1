"""What is kept of a study without its weights is judged as the study is."""

import json
from pathlib import Path

import pytest

from benchmarks.pretrained import keep
from common.errors import UserError
from kd_privacy.study_cli import main
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.run.cell_state import CellFiles
from tests.studies.small_study import write_manifests

STUDY = "configs/studies/small.yaml"


def findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> object:
    assert main(["claims", STUDY, "--run_dir", str(folder), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("without_pictures")
def test_a_kept_study_is_judged_as_the_study_is(
    finished: Plan, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path("runs/small")
    for cell in finished.cells:
        (Path(cell.run_dir) / "export" / "README.md").write_text(cell.alias)
        (Path(cell.run_dir) / "config.yaml").write_text("model: {init_args: {kd_loss: null}}\n")
    (out / "plan.json").write_text(json.dumps(finished.as_dict()))
    write_study_tables(finished, out)
    write_manifests(finished, out, subject=False)
    (control,) = (cell for cell in finished.cells if cell.role == "control")
    CellFiles(control).write("pending", {})
    assert main(["report", STUDY, "--run_dir", str(out)]) == 0
    kept = keep(out, project / "results")
    again = keep(out, project / "results")
    assert again == kept == project / "results/small"
    assert len(list(kept.glob("cells/*"))) == len(finished.cells) - 1
    assert not list(kept.glob("cells/*/export/model.txt"))
    copies = [*kept.glob("cells/*/scores.parquet"), *kept.glob("cells/*/config.yaml")]
    assert len(copies) == 2 * (len(finished.cells) - 1)
    assert all(one.read_bytes() == (out / one.relative_to(kept)).read_bytes() for one in copies)
    tables = out / "report/tables"
    assert (kept / "utility.csv").read_text() == (tables / "utility.csv").read_text()
    capsys.readouterr()
    assert findings(kept, capsys) == findings(out, capsys)


def test_a_study_without_a_report_is_named(finished: Plan, project: Path) -> None:
    out = Path("runs/small")
    (out / "plan.json").write_text(json.dumps(finished.as_dict()))
    with pytest.raises(UserError, match="tables: no such folder; `kd-study report`"):
        keep(out, project / "results")


def test_what_was_kept_is_not_replaced_by_itself(finished: Plan, project: Path) -> None:
    out = Path("runs/small")
    (out / "plan.json").write_text(json.dumps(finished.as_dict()))
    (out / "report/tables").mkdir(parents=True)
    with pytest.raises(UserError, match="give the study itself"):
        keep(out, Path("runs"))
    assert (out / "cells").is_dir()
