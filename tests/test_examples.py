"""The examples run as they stand, without a network."""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.processes import ROOT, server


def run_script(folder: Path, arguments: list[str]) -> None:
    """Runs the script in a folder of its own, its words in `said.txt`."""
    os.chdir(folder)
    sys.stdout = open("said.txt", "w", encoding="utf-8")
    sys.argv = ["audit_your_model.py", *arguments]
    runpy.run_path("audit_your_model.py", run_name="__main__")
    sys.stdout.close()


def run_notebook(folder: Path) -> None:
    """Runs the code cells one after the other; names come from the folder, as in Jupyter."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    cells = json.loads(Path("audit_your_model.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    aurocs = {name: names["more"][name].auroc.value for name in names["more"].attacks}
    Path("aurocs.json").write_text(json.dumps(aurocs), encoding="utf-8")


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    return shutil.copytree(ROOT / "examples", tmp_path / "examples")


def finish(target: object, *arguments: object) -> None:
    process = server().Process(target=target, args=arguments)
    process.start()
    process.join(300)
    assert process.exitcode == 0


@pytest.mark.slow
def test_the_script_finds_the_leak_of_its_tiny_model(examples: Path) -> None:
    finish(run_script, examples, ["--out", "report"])
    said = (examples / "said.txt").read_text(encoding="utf-8")
    assert "The page: report/index.html" in said
    results = pd.read_parquet(examples / "report" / "results.parquet")
    loss = results[(results.name == "loss") & (results.metric == "auroc") & results.task.isna()]
    assert loss.lower.item() > 0.55


def test_every_cell_of_the_notebook_runs(examples: Path) -> None:
    finish(run_notebook, examples)
    aurocs = json.loads((examples / "aurocs.json").read_text(encoding="utf-8"))
    assert set(aurocs) == {"loss", "min_k (k=0.1)", "length"}
    assert aurocs["loss"] > 0.7 > aurocs["length"]
    cells = json.loads((ROOT / "examples" / "audit_your_model.ipynb").read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells)
