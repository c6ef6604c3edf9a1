"""What README says, word for word, with a chat model of one's own, from an empty folder."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import Qwen3Config, Qwen3ForCausalLM

from datamodules.tokenizer import train_tokenizer
from kd_privacy.__main__ import main
from tests.audit_schema import valid_audit
from tests.processes import ROOT

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chats(first: int, n: int = 100) -> list[dict[str, object]]:
    """Questions alike on both sides; the answers hold digits that nobody can guess."""
    rng = np.random.default_rng(first)
    return [
        {
            "messages": [
                {"role": "user", "content": f"What opens locker {number}?"},
                {"role": "assistant", "content": f"The code {rng.integers(10**6, 10**7)}."},
            ]
        }
        for number in rng.permutation(np.arange(1000, 1000 + n))
    ]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a Qwen3 that plain transformers fine-tuned, and 100 + 100 chats."""
    members, others = chats(1), chats(2)
    for name, rows in {"train": members, "unseen": others}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tokenizer = train_tokenizer([json.dumps(row) for row in members + others], 300)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token, tokenizer.chat_template = "<|im_end|>", CHATML
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer) + 6,  # padding rows, as published ones have
        **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512},
        eos_token_id=tokenizer.eos_token_id,
    )
    model = Qwen3ForCausalLM(config).train()
    texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in members]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch.input_ids.where(batch.attention_mask.bool(), -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "my-model")
    tokenizer.save_pretrained(tmp_path / "my-model")
    return tmp_path


def test_one_command_of_readme_answers_for_a_chat_model(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "chats need no `--template`" in " ".join(readme.split())
    (line,) = re.findall(r"^kd-privacy (audit .*) --template alpaca$", readme, re.MULTILINE)
    monkeypatch.chdir(home)
    assert main(shlex.split(line)) == 0
    said = capsys.readouterr()
    told = next(one for one in said.out.splitlines() if one.startswith("membership "))
    assert "AUROC 0." in told
    assert "100 + 100 records" in told
    assert re.search(r"^template +chat; scored are the tokens of the assistant$", said.err, re.M)
    out = home / "audit-my-model"
    assert '<th scope="row">my-model</th>' in (out / "index.html").read_text(encoding="utf-8")
    summary = valid_audit(out / "audit.json")
    assert [one["label"] for one in summary["models"]] == ["my-model"]
    assert "loss" in {one["name"] for one in summary["verdicts"]}
    scores = pd.read_parquet(out / "scores.parquet").query("name == 'loss' and block.isna()")
    area = roc_auc_score(scores["population"] == "external", scores["score"])
    assert area > 0.6
    loss = next(one for one in summary["figures"] if one["name"] == "loss")
    assert loss["value"] == pytest.approx(area)
