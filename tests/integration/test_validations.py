"""Which weights a validation audits, into whose tables, and that it warns of one that guesses."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from audits.answer.console import LINES
from audits.known_text import AUDIT
from kd_privacy.cli import main
from tests.integration.conftest import fragments, losses, table

Refused = Callable[[list[str]], str]
WARNING = "warning: this model knows nothing of the text"


@pytest.fixture
def fitted(teacher: Path, tmp_path: Path) -> Path:
    """A copy of the teacher's run."""
    shutil.copytree(teacher, tmp_path / "run")
    return tmp_path / "run"


def tables(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(run_dir.glob("*.parquet"))}


def test_the_configuration_of_a_fit_alone_audits_nothing(fitted: Path, refused: Refused) -> None:
    before = tables(fitted)
    command = ["validate", "-c", str(fitted / "config.yaml"), f"--run_dir={fitted}"]
    assert "this would audit random weights: give --ckpt_path" in refused(command)
    assert tables(fitted) == before
    assert not (fitted / "validate.yaml").exists()


def test_the_tables_of_a_fit_take_its_own_checkpoints_alone(
    fitted: Path, teacher: Path, refused: Refused
) -> None:
    before = tables(fitted)
    command = ["validate", "-c", str(fitted / "config.yaml"), f"--run_dir={fitted}"]
    for other in (
        ["--untrained=true"],
        [f"--ckpt_path={teacher / 'checkpoints' / 'last.ckpt'}"],
        [f"--model.network.source={teacher / 'export'}"],
    ):
        assert "whose tables take audits of its own checkpoints alone" in refused(command + other)
    assert tables(fitted) == before
    main([*command, "--ckpt_path=last"])
    steps = pd.read_parquet(teacher / "results.parquet").step
    assert set(table(fitted, "results").step) == set(steps)


def untrained(run_dir: Path) -> list[str]:
    return [
        "validate",
        *fragments("teacher", "audits/membership")[1:],
        "--untrained=true",
        f"--run_dir={run_dir}",
    ]


def test_random_weights_are_audited_by_request_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*untrained(tmp_path / "run"), "--trainer.enable_progress_bar=true"])
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert sum(line.startswith(WARNING) for line in lines) == 1
    # What runs in four lines, and at the end what was found in twenty.
    assert [line.split()[0] for line in lines[:4]] == ["model", "data", "template", "device"]
    assert len(said.out.splitlines()) <= LINES
    assert any(line.startswith("membership ") for line in said.out.splitlines())
    assert f"tables   {tmp_path / 'run'}" in said.out.splitlines()
    assert f"summary  {tmp_path / 'run' / 'audit.json'}" in said.out.splitlines()
    rows = table(tmp_path / "run", "results")
    assert set(rows.step) == {0}
    (warned,) = rows[rows.audit == AUDIT].to_dict("records")
    assert warned["value"] == pytest.approx(6.24, abs=0.2)  # ln 512
    assert "untrained" not in (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")


def test_weights_that_know_the_text_are_not_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is the guess before the first step of their fit, which is validated too."""
    run_dir = tmp_path / "run"
    learning = ["--model.optimizer.lr=1e-2", "--trainer.max_epochs=4"]
    main([*fragments("teacher"), *learning, f"--run_dir={run_dir}"])
    assert losses(run_dir, "val/loss")[-1] < 0.9 * math.log(512)
    fitted = capsys.readouterr()
    assert fitted.out.startswith("no audit with a verdict ran: ")
    assert WARNING not in fitted.err
    main([*("validate", "-c", str(run_dir / "config.yaml"), "--ckpt_path=last")])
    assert WARNING not in capsys.readouterr().err
    assert AUDIT not in set(table(run_dir, "results").audit)
    assert "Warning" not in (run_dir / "export" / "README.md").read_text(encoding="utf-8")


def test_a_fit_that_learns_nothing_is_told_of_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    options = ["--model.optimizer.lr=1e-9", "--trainer.enable_progress_bar=true"]
    main([*fragments("teacher"), *options, f"--run_dir={run_dir}"])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["model", "data", "template", "device"]
    assert sum(line.startswith(WARNING) for line in lines) == 1
    rows = table(run_dir, "results")
    assert set(rows[rows.audit == AUDIT].step) == {rows.step.max()}
    card = (run_dir / "export" / "README.md").read_text(encoding="utf-8")
    body = card.split("---\n", 2)[2].strip().split("\n\n")
    assert body[1].startswith("**Warning: this model knows nothing of the text")


@pytest.mark.slow
def test_weights_that_were_shuffled_are_warned_of(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model whose rows stand for other tokens, as with a wrong tokenizer."""
    folder = tmp_path / "model"
    shutil.copytree(teacher / "export", folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight.copy_(weight[torch.randperm(len(weight), generator=torch.manual_seed(0))])
    model.save_pretrained(folder)
    command = [
        "validate",
        *fragments("teacher")[1:],
        f"--model.network.source={folder}",
        f"--data.tokenizer={folder}",
        f"--run_dir={tmp_path / 'out'}",
    ]
    main(command)
    assert WARNING in capsys.readouterr().err


def test_a_resumed_run_keeps_the_configuration_that_it_was_started_with(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    main([*fragments("teacher"), "--trainer.max_steps=1", f"--run_dir={run_dir}"])
    before = (run_dir / "config.yaml").read_bytes()
    more = ["--trainer.max_steps=2", "--ckpt_path=last"]
    main([*fragments("teacher"), *more, f"--run_dir={run_dir}"])
    assert (run_dir / "config.yaml").read_bytes() == before
    elsewhere = tmp_path / "elsewhere"
    last = run_dir / "checkpoints" / "last.ckpt"
    more = ["--trainer.max_steps=3", f"--ckpt_path={last}", f"--run_dir={elsewhere}"]
    main([*fragments("teacher"), *more])
    assert "max_steps: 3" in (elsewhere / "config.yaml").read_text(encoding="utf-8")
