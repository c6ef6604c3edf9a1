"""Whole commands on weights and tokenizers that do not fit: refused in one line, or told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from datamodules.synthetic import generate_records
from kd_privacy.cli import main
from tests.integration.conftest import ROOT, fragments, table

SLOW = pytest.mark.slow
Refused = Callable[[list[str]], str]


@pytest.fixture
def broken(teacher: Path, tmp_path: Path) -> Path:
    """The teacher's export without its second block."""
    folder = tmp_path / "broken"
    shutil.copytree(teacher / "export", folder)
    file = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if ".h.1." not in name}
    save_file(kept, file, metadata={"format": "pt"})
    return folder


def external(model: Path, folder: Path, *texts: str) -> list[str]:
    """An audit of a model by its own and fresh synthetic records, the latter with more texts."""
    for side, seed in (("members", 0), ("nonmembers", 9)):
        records = generate_records(12, seed)
        extra = texts if side == "nonmembers" else ()
        rows = [
            {"instruction": one.instruction, "response": one.response, "category": one.task}
            for one in records
        ] + [{"instruction": "Say it.", "response": text, "category": "open_qa"} for text in extra]
        lines = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{side}.jsonl").write_text(lines, encoding="utf-8")
    return [
        "validate",
        "-c",
        "configs/audits/external.yaml",
        f"--model.source={model}",
        f"--data.members={folder / 'members.jsonl'}",
        f"--data.nonmembers={folder / 'nonmembers.jsonl'}",
        "--trainer.enable_progress_bar=false",
        f"--run_dir={folder / 'out'}",
    ]


@pytest.fixture(scope="module")
def plain_scores(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Scores under the teacher's export as it is."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        main(external(teacher / "export", folder))
    return table(folder / "out", "scores")


@pytest.mark.parametrize(
    "door",
    ["audit", *(pytest.param(one, marks=SLOW) for one in ("teacher", "source", "reference"))],
)
def test_no_command_takes_half_a_model(
    door: str, broken: Path, tmp_path: Path, refused: Refused
) -> None:
    fit = {
        "teacher": [*fragments("student", "techniques/kd"), f"--model.teacher={broken}"],
        "source": [
            *(*fragments("teacher"), "-c", "configs/families/gpt2-tiny.yaml"),
            f"--model.network.source={broken}",
        ],
        "reference": [
            *fragments("control", "audits/membership_reference"),
            *(f"--references.models.base={broken}", "--trainer.max_steps=1"),
        ],
    }
    run = f"--run_dir={tmp_path / 'run'}"
    line = refused([*fit[door], run] if door in fit else external(broken, tmp_path))
    assert f"{broken}' do not fit its network: transformer.h.1." in line
    assert "and 9 more" in line


def test_a_checkpoint_of_another_network_ends_a_validation(
    teacher: Path, tmp_path: Path, refused: Refused
) -> None:
    command = [
        "validate",
        *fragments("teacher")[1:],
        f"--ckpt_path={teacher / 'checkpoints' / 'last.ckpt'}",
        f"--run_dir={tmp_path / 'run'}",
    ]
    network = "{n_layer: 2, n_embd: 32, n_positions: 512, resid_pdrop: 0.0, "
    dropout = "embd_pdrop: 0.0, attn_pdrop: 0.0, n_head: 4}"
    assert "n_head is 2, this run's is 4" in refused(
        [*command, f"--model.network.config={network}{dropout}"]
    )
    assert "has the shape" in refused([*command, "--model.network.config.n_positions=520"])


def test_only_a_text_that_needs_a_missing_row_is_refused(
    teacher: Path, plain_scores: pd.DataFrame, tmp_path: Path, refused: Refused
) -> None:
    """A tokenizer with two tokens that were added after the model: one pads, one is nowhere."""
    model = tmp_path / "model"
    shutil.copytree(teacher / "export", model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.add_tokens(["zweihundert"])
    tokenizer.save_pretrained(model)
    main(external(model, tmp_path))
    pd.testing.assert_frame_equal(table(tmp_path / "out", "scores"), plain_scores)
    shutil.rmtree(tmp_path / "out")
    line = refused(external(model, tmp_path, "It is zweihundert here."))
    assert "nonmembers.jsonl:13" in line
    assert "'zweihundert' is number 513, but the model has 512 rows" in line


def test_rows_beyond_the_tokenizer_get_no_probability(
    teacher: Path, plain_scores: pd.DataFrame, tmp_path: Path
) -> None:
    padded = tmp_path / "padded"
    shutil.copytree(teacher / "export", padded)
    model = AutoModelForCausalLM.from_pretrained(padded)
    model.resize_token_embeddings(576, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[512:] = 5.0
    model.save_pretrained(padded)
    main(external(padded, tmp_path))
    found = table(tmp_path / "out", "scores")
    pd.testing.assert_frame_equal(found, plain_scores, rtol=1e-5, atol=1e-6)
