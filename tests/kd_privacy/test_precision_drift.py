"""How far rounded weights move the scores, measured when asked, beside plain transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import kd_privacy
from common.errors import UserError
from datamodules.prompts import ALPACA
from datamodules.tokenizer import train_tokenizer

ROWS = [{"instruction": f"Say {i}", "response": f"It is {i * 7919 % 997}."} for i in range(80)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([str(row) for row in ROWS], 280)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=280,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(home)
    tokenizer.save_pretrained(home)
    return home


def losses(folder: Path, dtype: torch.dtype, rows: list[dict[str, str]]) -> np.ndarray:
    """Each answer's mean loss with its end, record by record; softmaxes in float64."""
    from transformers import AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for row in rows:
        prompt = tokenizer(ALPACA.render(row["instruction"], ""))["input_ids"]
        answer = [*tokenizer(row["response"])["input_ids"], tokenizer.eos_token_id]
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            states = model.model(ids).last_hidden_state.float()
            logp = (states @ model.lm_head.weight.float().T)[0, :-1].double().log_softmax(-1)
        chosen = logp[len(prompt) - 1 :].gather(1, ids[0, len(prompt) :, None])
        found.append(-float(chosen.mean()))
    return np.array(found)


def test_the_drift_is_that_of_plain_transformers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = (ROWS[:40], ROWS[40:])
    options = {"template": "alpaca", "default_task": "open_qa", "dtype": "bfloat16"}
    found = kd_privacy.audit(folder, None, *sides, drift=True, **options)
    (row,) = found.results[found.results["metric"] == "loss_drift_nats"].to_dict("records")
    scored = ROWS[:32] + ROWS[40:72]
    exact = losses(folder, torch.float32, scored)
    change = np.abs(losses(folder, torch.bfloat16, scored) - exact)
    assert change.mean() > 1e-4
    assert row["value"] == pytest.approx(change.mean(), rel=0.02)
    assert row["lower"] < row["value"] < row["upper"]
    note = f"bfloat16 weights move a record's loss by {row['value']:.2g} nats a token"
    assert sum(one.startswith(note) for one in found.notes) == 1
    assert f"audit: {note}" in capsys.readouterr().err
    assert not (
        kd_privacy.audit(folder, None, *sides, progress=False, **options).results["audit"]
        == "precision"
    ).any()


def test_it_needs_rounded_weights_from_a_folder(folder: Path) -> None:
    with pytest.raises(UserError, match="give dtype bfloat16 or auto with it"):
        kd_privacy.audit(folder, None, ROWS[:2], ROWS[2:4], drift=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(UserError, match="drift takes a model that is named"):
        kd_privacy.audit(model, None, ROWS[:2], ROWS[2:4], drift=True, dtype="bfloat16")
