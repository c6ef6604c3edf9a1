"""A published architecture on chat messages, from a teacher to the audit of a student's export."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from datamodules.tokenizer import train_tokenizer
from kd_privacy.__main__ import main as command
from kd_privacy.cli import main

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRAINING = [
    "--model.optimizer.lr=3e-3",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--data.batch_size=8",
    "--data.max_prompt_tokens=160",
    "--data.max_tokens=256",
]
AUDITS = ["membership", "memorization_last", "blocks"]


def conversations(n: int) -> list[dict[str, object]]:
    """Two turns each; the answers hold digits that nobody can guess."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(n):
        code, colour = rng.integers(100, 999, size=2)
        turns = [
            ("user", f"What is the code of locker {index}?"),
            ("assistant", f"The code of locker {index} is {code}."),
            ("user", "And its colour?"),
            ("assistant", f"Its colour has the number {colour}."),
        ]
        rows.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    return rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3 of random weights, its tokenizer without a template, one, and conversations."""
    folder = tmp_path_factory.mktemp("base")
    rows = conversations(160)
    (folder / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tokenizer = train_tokenizer([json.dumps(row) for row in rows], 320)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.save_pretrained(str(folder / "model"))
    (folder / "chatml.jinja").write_text(CHATML, encoding="utf-8")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer) + 6,  # padding rows, as published ones have
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder / "model")
    return folder


def fit(base: Path, run_dir: Path, role: str, audits: list[str], *more: str) -> Path:
    """Trains on the conversations; returns the run's folder."""
    fragments = [f"base/{role}", "data/records", *(f"audits/{name}" for name in audits)]
    listed = [part for name in fragments for part in ("-c", name)]
    data = [f"--data.source={base / 'chats.jsonl'}", f"--data.tokenizer={base / 'model'}"]
    data.append(f"--data.template={base / 'chatml.jinja'}")
    main(["fit", *listed, *data, *TRAINING, *more, f"--run_dir={run_dir}"])
    return run_dir


@pytest.fixture(scope="module")
def teacher(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a teacher that was fine-tuned on the conversations."""
    run_dir = tmp_path_factory.mktemp("teacher") / "run"
    return fit(base, run_dir, "teacher", [], f"--model.network.source={base / 'model'}")


@pytest.mark.parametrize("technique", ["kd", pytest.param("gkd", marks=pytest.mark.slow)])
def test_a_half_depth_student_of_a_qwen3_teacher_on_chats(
    technique: str, base: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = fit(
        base,
        tmp_path / "student",
        "student",
        AUDITS,
        *("-c", f"techniques/{technique}"),
        f"--model.teacher={teacher / 'export'}",
        f"--model.network.source={base / 'model'}",
        "--model.network.depth_stride=2",
        *(["--model.responses.sampling.max_new_tokens=16"] if technique == "gkd" else []),
    )
    results = pd.read_parquet(student / "results.parquet")
    assert {"membership", "memorization", "blocks"} <= set(results["audit"])
    plain = AutoModelForCausalLM.from_pretrained(student / "export")
    assert plain.config.model_type == "qwen3"
    assert plain.config.num_hidden_layers == 2
    assert AutoTokenizer.from_pretrained(student / "export").chat_template == CHATML

    # The members and non-members of the run's own audit, as a stranger would give them.
    manifest = pd.read_parquet(student / "private" / "manifest.parquet")
    rows = {kd_privacy_id(row): row for row in conversations(160)}
    sides = {
        split: [rows[one] for one in manifest.loc[manifest["split"] == split, "content"]]
        for split in ("private", "held_out")
    }
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    for name, side in sides.items():
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, side)), encoding="utf-8")
    status = command(
        [
            "audit",
            str(student / "export"),
            "--members=private.jsonl",
            "--nonmembers=held_out.jsonl",
            "--max_tokens=256",
            "--max_prompt_tokens=160",
            "--out=out",
        ]
    )
    assert status == 0
    own = comparable(results[results["step"] == results["step"].max()])
    theirs = comparable(pd.read_parquet("out/results.parquet"))
    shared = theirs.index.intersection(own.index)
    assert {"membership", "memorization", "blocks"} <= set(shared.get_level_values("audit"))
    pd.testing.assert_frame_equal(theirs.loc[shared], own.loc[shared], check_exact=True)
    # A stranger has no never-seen records, and no coins dealt the sides.
    for audit, population, _, _, metric, _, params in own.index.difference(shared):
        of_training = audit == "guarantee" or metric in ("epsilon_lower", "mu_lower")
        assert of_training or population == "never" or '"never"' in params
    alone = theirs.index.difference(shared).get_level_values("metric")
    assert set(alone) == {"never_missing", "perplexity"}


def comparable(results: pd.DataFrame) -> pd.DataFrame:
    """Every figure by what it is of, the members' population by one name."""
    found = results[results["metric"] != "dealt_by_coins"].fillna({"task": "", "block": -1})
    found["population"] = found["population"].replace("private", "external")
    key = ["audit", "population", "task", "name", "metric", "block", "params"]
    columns = ["value", "lower", "upper", "p_value", "n_members", "n_nonmembers", "skipped"]
    return found.set_index(key, verify_integrity=True)[columns]


def kd_privacy_id(row: dict[str, object]) -> str:
    """The content hash of a row, by the project's own reader."""
    from datamodules.records import records_from_rows

    (record,) = records_from_rows([("row", row)], "row")
    return record.content
