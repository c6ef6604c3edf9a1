"""The package: what an import costs, what hides it, and what its wheel holds."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from tests.processes import ROOT

PACKAGES = ("audits", "callbacks", "common", "datamodules", "kd_privacy", "kdmodules", "studies")


def python(
    code: str, folder: Path, interpreter: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter, the working directory first on its path."""
    return subprocess.run(
        [interpreter, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_an_import_loads_nothing_before_it_is_used(tmp_path: Path) -> None:
    code = (
        "import sys; known = set(sys.modules); import kd_privacy\n"
        "assert 'audit' in dir(kd_privacy)\n"
        "assert not {'torch', 'numpy', 'lightning', 'transformers'} & (set(sys.modules) - known)\n"
        "from kd_privacy import statistics\n"
        "print(statistics.auroc([0.9, 0.8], [0.1, 0.2]).value, 'lightning' in sys.modules)\n"
        "kd_privacy.nothing"
    )
    done = python(code, tmp_path, PYTHONPATH=str(ROOT))
    assert done.stdout.split() == ["1.0", "False"]
    assert done.stderr.endswith("module 'kd_privacy' has no attribute 'nothing'\n")


def test_the_pure_functions_are_reached() -> None:
    from kd_privacy import attacks, losses

    student, teacher = (torch.randn(3, 5).log_softmax(dim=-1) for _ in range(2))
    expected = (teacher.exp() * (teacher - student)).sum(dim=-1)
    assert torch.allclose(losses.ForwardKL().per_token(student, teacher), expected, atol=1e-6)
    assert attacks.MinK(0.1).params == {"k": 0.1}


def test_the_demos_installation_has_what_is_imported() -> None:
    """Test runner, browser driver and linters are no part of it; extras are asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = {
        re.split(r"[\[>=<]", need)[0].lower().replace("-", "_") for need in project["dependencies"]
    }
    installed |= {"markupsafe", "pydantic_core"}  # with jinja2 and pydantic
    imports = re.compile(
        r"^ *(?:from (?=[\w.]+ import )|import (?=[\w.]+(?: as \w+)?$))(\w+)", re.MULTILINE
    )
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    imported = {name for path in files for name in imports.findall(path.read_text("utf-8"))}
    homes = packages_distributions()
    beyond = {
        name
        for name in imported - {*PACKAGES, *sys.stdlib_module_names}
        if not {home.lower().replace("-", "_") for home in homes.get(name, ())} & installed
    }
    # Presidio comes with the two others.
    assert beyond == {"ray", "presidio_analyzer", "spacy", "tldextract"}


@pytest.mark.parametrize("hiding", ["callbacks/__init__.py", "common.py"])
def test_what_hides_a_package_is_named(hiding: str, tmp_path: Path) -> None:
    path = tmp_path / hiding
    path.parent.mkdir(exist_ok=True)
    path.write_text("", encoding="utf-8")
    done = python("import kd_privacy", tmp_path, PYTHONPATH=str(ROOT))
    named = path.parent if path.stem == "__init__" else path
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"ImportError: {named} stands where kd-privacy's own package ")
    assert named.stem in line.partition("own package")[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that nothing of the build stays in the tree."""
    source = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "configs", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(out), str(source)], check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_the_fragments_inside_one(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)
    assert "studies/docs/glossary.md" in names
    inside = "kd_privacy/configs/"
    assert sorted(name.removeprefix(inside) for name in names if name.startswith(inside)) == sorted(
        str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").rglob("*.yaml")
    )
    code = {str(path.relative_to(ROOT)) for name in PACKAGES for path in (ROOT / name).rglob("*.*")}
    kinds = (".py", ".html", ".css", ".js", ".json", ".txt", ".yaml")
    assert {name for name in code if name.endswith(kinds)} <= set(names)


def installed(wheel: Path, folder: Path) -> str:
    """Installs the wheel alone beside this interpreter's packages; returns the new interpreter.

    The folder of packages is named and not followed: an editable install of this project, which
    hooks itself in there, stays out.
    """
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{Path(pd.__file__).parents[1]}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return str(folder / "bin" / "python")


@pytest.mark.slow
def test_an_installed_wheel_audits_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    interpreter = installed(wheel, tmp_path / "environment")
    sides = {"members": generate_records(8, 1), "nonmembers": generate_records(8, 2)}
    for side, records in sides.items():
        rows: list[Mapping[str, str]] = [
            {"instruction": one.instruction, "response": one.response, "category": one.task}
            for one in records
        ]
        (tmp_path / f"{side}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    texts = [one.instruction + one.response for side in sides.values() for one in side]
    train_tokenizer(texts, 300).save_pretrained(tmp_path / "model")
    config = GPT2Config(vocab_size=300, n_layer=1, n_head=1, n_embd=8, n_positions=512)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    empty = tmp_path / "empty"
    empty.mkdir()
    code = (
        "import sys, kd_privacy, common\n"
        f"for module in kd_privacy, common: assert {str(tmp_path)!r} in module.__file__\n"
        "from kd_privacy.cli import main\n"
        "main(['validate', '-c', 'configs/audits/external.yaml', '--model.source=../model',"
        " '--data.members=../members.jsonl', '--data.nonmembers=../nonmembers.jsonl',"
        " '--trainer.accelerator=cpu', '--trainer.enable_progress_bar=false', '--run_dir=out'])"
    )
    done = python(code, empty, interpreter, PYTHONPATH="", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    results = pd.read_parquet(empty / "out" / "results.parquet")
    assert (results[results.metric == "auroc"].n_members.dropna() <= 8).all()
    assert {"loss", "zlib", "min_k", "min_k_plus_plus"} <= set(results.name)
