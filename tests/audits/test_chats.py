"""Audits of conversations with several scored turns, against loops over the model's own logits."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import kd_privacy
from audits.membership.attacks import Loss, Zlib
from common.errors import UserError
from kd_privacy.cli import main
from kdmodules.models.causal_lm import CausalLM
from tests.datamodules import chat_models as models

COLOURS = ("red", "blue", "green", "sky", "sea", "hello", "they", "name")
START, END = "<|im_start|>", "<|im_end|>"


def rows(side: int, n: int = 12) -> list[dict[str, object]]:
    """Conversations of two exchanges."""
    return [
        {
            "id": f"{side}-{i}",
            "messages": [
                {"role": "user", "content": f"name a colour {i}"},
                {"role": "assistant", "content": f"it is {COLOURS[i % 8]} {side}{i}"},
                {"role": "user", "content": f"of the {COLOURS[i % 5]}"},
                {"role": "assistant", "content": f"they say {COLOURS[i % 7]} {i * 7}{side}"},
            ],
        }
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return models.chat_tokenizer(models.CHATML)


def network(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=512,
        eos_token_id=tokenizer.eos_token_id,
    )
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def place(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A folder with a model, its tokenizer and two files of records."""
    network(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    for side, name in enumerate(("members", "nonmembers")):
        lines = [json.dumps(row) for row in rows(side)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path


def by_hand(row: Mapping[str, object], score: str) -> tuple[str, list[tuple[str, bool]]]:
    """The text of a conversation in pieces, each scored or not."""
    pieces: list[tuple[str, bool]] = []
    messages = row["messages"]
    for place, message in enumerate(messages):
        last = place == len(messages) - 1
        own = message["role"] == "assistant" and (score == "assistant" or last)
        pieces += [(f"{START}{message['role']}\n", False), (f"{message['content']}{END}", own)]
        pieces += [("\n", False)]
    return "".join(text for text, _ in pieces), pieces


def by_own_id(audit: kd_privacy.Audit, table: pd.DataFrame) -> pd.DataFrame:
    """A table of records with the ids that their file gives them."""
    return table.merge(audit.records[["record", "id"]], on="record", validate="many_to_one")


@pytest.mark.parametrize("score", ["assistant", "last"])
def test_membership_scores_are_those_of_a_loop(
    place: Path, tokenizer: PreTrainedTokenizerFast, score: str
) -> None:
    audit = kd_privacy.audit(
        str(place / "model"),
        None,
        str(place / "members.jsonl"),
        str(place / "nonmembers.jsonl"),
        template=None,
        score=score,
        attacks=[Loss(), Zlib()],
        max_tokens=200,
        max_prompt_tokens=120,
        progress=False,
    )
    model = network(tokenizer).double()
    found = by_own_id(audit, audit.scores).set_index(["id", "name"])["score"]
    for row in [*rows(0), *rows(1)]:
        whole, pieces = by_hand(row, score)
        ids, flags = [], []
        for text, own in pieces:
            part = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids, flags = ids + part, flags + [own] * len(part)
        assert ids == tokenizer(whole, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        loss = np.mean([float(logp[t - 1, ids[t]]) for t in range(len(ids)) if flags[t]])
        assert found[row["id"], "loss"] == pytest.approx(loss, abs=1e-5)
        words = [one["content"] for one in row["messages"] if one["role"] == "assistant"]
        size = len(zlib.compress("\n".join(words if score == "assistant" else words[-1:]).encode()))
        assert found[row["id"], "zlib"] == pytest.approx(loss / size, abs=1e-6)


def test_what_is_asked_of_the_last_turn_alone(
    place: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    from audits.membership.attacks import Lowercase

    sides = [str(place / f"{name}.jsonl") for name in ("members", "nonmembers")]
    options = {"max_tokens": 200, "max_prompt_tokens": 120, "progress": False, "template": "chat"}
    audit = kd_privacy.audit(
        network(tokenizer), tokenizer, *sides, memorization=True, blocks=True, **options
    )
    judged = by_own_id(audit, audit.memorization)
    lengths = judged[judged["name"] == "token_accuracy"].set_index("id")["n_tokens"]
    for row in rows(0):
        # The memorization audit asks for the last turn, whose end is no word.
        words = tokenizer(row["messages"][-1]["content"], add_special_tokens=False)["input_ids"]
        assert lengths[row["id"]] == len(words)
    with pytest.raises(UserError, match=r"jsonl:1: an attack that rewrites .* give the score"):
        kd_privacy.audit(network(tokenizer), tokenizer, *sides, attacks=[Lowercase()], **options)
    last = kd_privacy.audit(
        network(tokenizer), tokenizer, *sides, attacks=[Lowercase()], score="last", **options
    )
    assert "lowercase" in last.attacks


def test_a_wrong_template_is_told_of_and_counts_are_rows(
    place: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = network(tokenizer).train()
    questions = [
        {
            "instruction": f"name a colour {i}",
            "response": f"it is {COLOURS[i % 8]} {i}",
            "category": "open_qa",
        }
        for i in range(40)
    ]
    texts = [
        f"{START}user\n{one['instruction']}{END}\n{START}assistant\n{one['response']}{END}"
        for one in questions
    ]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    files = []
    for name, part in (("a", questions[:20]), ("b", questions[20:])):
        path = place / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps(one) for one in part))
        files.append(str(path))
    found = {
        template: kd_privacy.audit(
            model, tokenizer, *files, template=template, attacks=[Loss()], progress=False
        )
        for template in ("alpaca", "chat")
    }
    (warning,) = [one for one in found["alpaca"].warnings if "template" in one]
    assert warning.endswith("or give the template chat")
    assert not [one for one in found["chat"].warnings if "template" in one]
    table = found["chat"].results
    rows_of = table[table["audit"] == "template"]
    assert set(rows_of["name"]) == {"alpaca", "none"}
    assert (rows_of["value"] < 0).all()
    counts = table[table["audit"] == "records"].set_index(["population", "metric"])["value"]
    assert counts["external", "responses_cut"] == 0
    assert len(counts) == 8


def test_show_prints_a_record_of_each_side(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "show",
            *("-c", "audits/external.yaml"),
            f"--model.source={place / 'model'}",
            f"--data.members={place / 'members.jsonl'}",
            f"--data.nonmembers={place / 'nonmembers.jsonl'}",
            "--data.template=chat",
        ]
    )
    shown = capsys.readouterr().out
    assert shown.startswith("template chat, scored assistant, special tokens in text parse")
    assert f"end tokens <|endoftext|> {END}" in shown
    for side, name in enumerate(("external", "held_out")):
        assert f"{name}: records 12, without a response 0, prompts cut 0" in shown
        assert (
            f"{START}user\nname a colour 0{END}\n{START}assistant\n⟦it is red {side}0{END}⟧\n"
            f"{START}user\nof the red{END}\n{START}assistant\n⟦they say red 0{side}{END}⟧"
        ) in shown
    assert CausalLM.__name__ not in shown
