"""Bases of the adapters among the models of an audit: one for all, or by the models' names."""

from pathlib import Path

import peft
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import kd_privacy
from common.errors import UserError
from datamodules.tokenizer import train_tokenizer
from kd_privacy.audit_cli import audit_parser
from kd_privacy.audit_options import AuditOptions

ROWS = [{"instruction": f"Say {i}", "response": f"It is {i * 7919 % 997}."} for i in range(24)]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """A whole model, and an adapter for it whose own base is gone."""
    tokenizer = train_tokenizer([str(row) for row in ROWS], 280)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=280, n_embd=16, n_layer=2, n_head=2, n_positions=512)
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "whole")
    form = peft.LoraConfig(r=2, target_modules=["c_attn"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, form)
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "gone")
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    for name in ("whole", "adapter", "merged"):
        tokenizer.save_pretrained(tmp_path / name)
    return {name: str(tmp_path / name) for name in ("whole", "adapter", "merged")}


def scores(model: str, reference: str, adapter_base: str | dict[str, str] | None) -> list[float]:
    found = kd_privacy.audit(
        *(model, None, ROWS[:12], ROWS[12:]),
        reference=reference,
        adapter_base=adapter_base,
        default_task="open_qa",
        template="alpaca",
        progress=False,
    )
    return [float(one) for one in found.scores["score"]]


def test_the_model_or_its_reference_may_be_the_adapter(folders: dict[str, str]) -> None:
    whole, adapter, merged = folders.values()
    expected = scores(whole, merged, None)
    assert scores(whole, adapter, {"base": whole}) == pytest.approx(expected, abs=1e-5)
    expected = scores(merged, whole, None)
    assert scores(adapter, whole, whole) == pytest.approx(expected, abs=1e-5)


def test_bases_are_given_by_the_names_of_a_pair(folders: dict[str, str]) -> None:
    options = AuditOptions(adapter_base={"teacher": "t", "student": "s"}, reference="r")
    assert options.loading("teacher", folders["adapter"]).adapter_base == "t"
    assert options.loading("base", "r").adapter_base is None
    everywhere = AuditOptions(adapter_base="b")
    bases = [everywhere.loading("any", folders[name]).adapter_base for name in ("whole", "adapter")]
    assert bases == [None, "b"]
    with pytest.raises(UserError, match="names 'student': there are model, teacher, base"):
        options.require_models({"model": "m", "teacher": "t"})
    with pytest.raises(UserError, match="no adapter alone is given: model"):
        everywhere.require_models({"model": folders["whole"]})


def test_the_command_takes_one_base_or_several() -> None:
    def given(text: str) -> object:
        words = ["m", "--members=a", "--nonmembers=b", "--adapter_base", text]
        return audit_parser().parse_args(words).adapter_base

    assert given("runs/step=3") == "runs/step=3"
    assert given("student=owner/a,teacher=b") == {"student": "owner/a", "teacher": "b"}
