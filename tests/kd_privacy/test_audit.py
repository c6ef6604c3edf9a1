"""`kd_privacy.audit`: the command's numbers, from Python."""

import json
import re
import stat
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch import nn
from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

import kd_privacy
from audits.results import SCHEMAS
from datamodules.tokenizer import train_tokenizer
from kd_privacy.cli import main
from tests.kd_privacy.small_models import MEMBERS, NONMEMBERS, SIZES, tiny, write
from tests.processes import ROOT

TABLES = ("results", "scores", "memorization")


@pytest.mark.parametrize(
    "family",
    [
        "gpt2",
        pytest.param("llama", marks=pytest.mark.slow),
        pytest.param("opt", marks=pytest.mark.slow),
    ],
)
def test_the_numbers_are_the_commands(
    family: str,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny(family, tokenizer)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    members = write(tmp_path / "members.jsonl", MEMBERS)
    nonmembers = write(tmp_path / "nonmembers.jsonl", NONMEMBERS)
    more = [
        {"class_path": "callbacks.MemorizationAudit"},
        {
            "class_path": "callbacks.BlockAudit",
            "init_args": {
                "signals": [
                    {"class_path": "audits.blocks.signals.LogitLens"},
                    {"class_path": "audits.blocks.signals.ResidualNorm"},
                ]
            },
        },
    ]
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks+": more}}))
    monkeypatch.chdir(tmp_path)
    main(
        [
            *("validate", "-c", "audits/external", "-c", "more.yaml", "--model.source=model"),
            *(f"--data.members={members}", f"--data.nonmembers={nonmembers}"),
            *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--run_dir=run"),
        ]
    )
    audit = kd_privacy.audit(
        model,
        tokenizer,
        MEMBERS,
        NONMEMBERS,
        memorization=True,
        blocks=True,
        template="alpaca",
        progress=False,
    )
    for name in TABLES:
        expected = pd.read_parquet(tmp_path / "run" / f"{name}.parquet")
        assert len(expected)
        pd.testing.assert_frame_equal(
            getattr(audit, name).drop(columns="run"), expected.drop(columns="run"), check_exact=True
        )
    kept = pd.read_parquet(tmp_path / "run" / "private" / "records.parquet")
    assert kept[["record", "id"]].equals(audit.records[["record", "id"]])
    assert set(kept["id"]) == {row["id"] for row in MEMBERS + NONMEMBERS}
    audits = {"membership", "memorization", "blocks", "known_text", "records", "template"}
    assert set(audit.results.audit) == audits
    assert audit.results.metric.tolist().count("never_missing") == 1
    whole = audit.results[audit.results.task.isna() & (audit.results.audit == "membership")]
    assert set(whole.role) == {"external"}
    aurocs, rare = (whole[whole.metric == metric] for metric in ("auroc", "tpr_at_fpr_0.01"))
    assert (aurocs[["n_members", "n_nonmembers", "skipped"]] == (15, 15, 2)).all(axis=None)
    assert rare.value.isna().all()
    assert whole[whole.metric == "dealt_by_coins"].value.tolist() == [0.0]
    assert "no never-seen records were given" in str(audit)


@pytest.fixture(scope="module")
def audited(tokenizer: PreTrainedTokenizerFast) -> "kd_privacy.Audit":
    return kd_privacy.audit(
        tiny("gpt2", tokenizer),
        tokenizer,
        MEMBERS,
        NONMEMBERS,
        level=0.9,
        template="alpaca",
        progress=False,
    )


def test_an_attack_is_found_by_its_name_with_an_interval_of_the_level(
    audited: "kd_privacy.Audit",
) -> None:
    table = audited.results
    row = table[(table.name == "min_k") & (table.metric == "auroc") & table.task.isna()].iloc[0]
    scores = audited.scores[audited.scores.name == "min_k"].groupby("population").score
    ours, theirs = (list(scores.get_group(side)) for side in ("external", "held_out"))
    higher = sum((a > b) + 0.5 * (a == b) for a in ours for b in theirs)
    estimate = audited["min_k"].auroc
    assert estimate.value == pytest.approx(higher / (len(ours) * len(theirs)), abs=1e-12)
    assert estimate.value == row.value
    assert (estimate.n_members, estimate.n_nonmembers) == (15, 15)
    assert row.lower < estimate.lower < estimate.value < estimate.upper < row.upper
    assert audited["min_k (k=0.2)"] is audited["min_k"]
    with pytest.raises(kd_privacy.UserError, match="no attack is named 'lira'; there are loss"):
        audited["lira"]


def test_what_is_printed_and_saved_holds_no_record(
    audited: "kd_privacy.Audit", tmp_path: Path
) -> None:
    text = str(audited)
    assert "  loss, external against non-members: AUROC 0." in text
    assert "15 + 15 records" in text
    assert "- 2 record(s) have no response that could be scored" in text
    assert "- this model knows nothing of the text" in text
    assert [alarm[:18] for alarm in audited.alarms] == ["this model knows n"]
    assert "the model computes in" not in text
    answer = audited.answer
    (told,) = answer.models
    assert told.label == "GPT2LMHeadModel"
    assert [one.membership.name for one in told.by_access] == ["loss", "min_k_plus_plus"]
    assert told.membership is not None
    assert told.membership.figure.value == audited["loss"].auroc.value
    assert answer.caution.startswith("this model knows nothing of the text")
    assert [one.partition(":")[0] for one in answer.untested] == [
        "single records",
        "memorization",
        "blocks",
        "utility",
    ]
    assert "cannot be judged" in answer.sentence
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "memorization.parquet").write_bytes(b"of an earlier audit")
    page = audited.save(tmp_path / "report")
    with pytest.raises(kd_privacy.UserError, match="index.html is a file: name a folder"):
        audited.save(page)
    content = page.read_text(encoding="utf-8")
    assert re.findall(r'data-spec="(\w+)"', content) == ["attacks", "roc", "roc_log"]
    assert content.count('class="bar') == 1
    shown = re.sub(r"<[^>]+>", "", content)
    first = shown[shown.index(answer.question) : shown.index("Open:")]
    assert answer.sentence.partition(". ")[0] in first
    assert not re.search(r"[a-z]_[a-z]|\w=\w", first), "a name of the code"
    assert sorted(one.name for one in page.parent.iterdir()) == [
        "audit.json",
        "index.html",
        "private",
        "results.parquet",
        "scores.parquet",
    ]
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (page.parent / "private", *page.parent.rglob("*.parquet"))
    }
    assert modes["private"] == 0o700
    assert modes["scores.parquet"] == modes["records.parquet"] == 0o600
    assert modes["results.parquet"] == stat.S_IMODE(page.stat().st_mode)
    for name in ("results", "scores"):
        saved = pd.read_parquet(page.parent / f"{name}.parquet")
        assert list(saved.columns) == SCHEMAS[name].names
        pd.testing.assert_frame_equal(saved, getattr(audited, name))
    kept = pd.read_parquet(page.parent / "private" / "records.parquet").set_index("record")["id"]
    assert set(kept) == {row["id"] for row in MEMBERS + NONMEMBERS}
    assert set(audited.scores["record"]) <= set(kept.index)
    everything = text + content + audited.results.to_csv() + audited.scores.to_csv()
    everything += (page.parent / "audit.json").read_text()
    assert "example.org" not in everything
    for row in MEMBERS + NONMEMBERS:
        assert row["instruction"] not in everything
        assert not row["response"] or row["response"] not in everything
    assert len(audited.plot().axes) == 2


def test_the_code_of_the_readme_runs_as_it_stands(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = readme.partition("```python")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    names = {"members": MEMBERS, "nonmembers": NONMEMBERS}
    exec(code, {"model": tiny("llama", tokenizer), "tokenizer": tokenizer, **names})
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"template": "chatml"}, "template 'chatml': there is no such file"),
        ({"score": "everything"}, "score is 'everything'"),
        ({"level": 95}, "level is 95"),
        ({"max_records": -1}, "max_records is -1: give 2 or more"),
        ({"batch_size": 0}, "batch_size is 0: give 1 or more"),
        ({"device": "cpu"}, "device is cpu and the model is given"),
        ({"attacks": []}, "attacks are \\[\\]"),
        ({"attacks": [kd_privacy.attacks.Reference()]}, "'base'; reference names none"),
        ({"attacks": ["loss"]}, "attacks names 'loss', which is no Attack object"),
        ({"blocks": "logit_lens"}, "blocks is 'logit_lens': give a list of BlockSignal objects"),
        ({"model": GPT2Model(GPT2Config(**SIZES["gpt2"]))}, "GPT2Model has no head over"),
        ({"max_tokens": 513}, "max_tokens is 513 but the model's window is 512"),
        ({"tokenizer": None}, "tokenizer is None"),
        ({"members": MEMBERS[:2]}, "members: 1 distinct record"),
        ({"members": NONMEMBERS}, "16 record\\(s\\) stand on both sides"),
        ({"model": nn.Linear(2, 2)}, "model is a Linear"),
    ],
)
def test_options_that_cannot_be_audited_are_named(
    options: dict[str, object], line: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    given = {
        "model": tiny("gpt2", tokenizer),
        "tokenizer": tokenizer,
        "members": MEMBERS,
        "nonmembers": NONMEMBERS,
        "progress": False,
        "template": "alpaca",
    }
    with pytest.raises(kd_privacy.UserError, match=line):
        kd_privacy.audit(**{**given, **options})


@pytest.mark.parametrize(
    "attack", [kd_privacy.attacks.EZ(), kd_privacy.attacks.WBC(), kd_privacy.attacks.InfoRMIA()]
)
def test_a_reference_of_other_tokens_is_refused_before_any_pass(
    attack: "kd_privacy.attacks.Attack",
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = train_tokenizer([json.dumps(row) for row in MEMBERS], 300)
    for part in (other, tiny("gpt2", other)):
        part.save_pretrained(tmp_path)
    monkeypatch.setattr("audits.scoring.scoring_pass.token_statistics", None)
    given = (tiny("gpt2", tokenizer), tokenizer, MEMBERS, NONMEMBERS)
    quietly = {"template": "alpaca", "progress": False}
    with pytest.raises(kd_privacy.UserError, match=f"{attack.name} .*'base' has another tokenizer"):
        kd_privacy.audit(*given, attacks=[attack], reference=tmp_path, **quietly)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_gives_the_same_scores(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny("gpt2", tokenizer)
    given = (tokenizer, MEMBERS, NONMEMBERS)
    on_cpu = kd_privacy.audit(model, *given, template="alpaca", progress=False).scores
    on_gpu = kd_privacy.audit(
        model.cuda(), *given, blocks=True, template="alpaca", progress=False
    ).scores
    on_gpu = on_gpu[on_gpu.block.isna()].reset_index(drop=True)
    keys = ["population", "name", "record"]
    pairs = on_cpu.merge(on_gpu, on=keys)
    assert len(pairs) == len(on_cpu) == 4 * 30
    assert pairs.score_x.to_numpy() == pytest.approx(pairs.score_y.to_numpy(), rel=1e-4, abs=1e-5)
    assert next(model.parameters()).is_cuda
