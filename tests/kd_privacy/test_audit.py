"""`kd_privacy.audit`: the command's numbers, from Python, on a model that stays as it was."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from datasets import Dataset
from torch import nn
from transformers import GPT2Config, GPT2Model, PreTrainedModel, PreTrainedTokenizerFast

import kd_privacy
from audits.results import SCHEMAS
from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from kd_privacy.cli import main
from kd_privacy.given_records import given_records
from kdmodules.models.architectures import config_class, new_model
from kdmodules.models.causal_lm import CausalLM
from tests.processes import ROOT

TABLES = ("results", "scores", "memorization")
SIZES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512},
    "opt": {
        "hidden_size": 32,
        "word_embed_proj_dim": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "ffn_dim": 64,
        "max_position_embeddings": 512,
    },
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
    },
}


def rows(seed: int, n: int = 16) -> list[dict[str, str]]:
    """Instruction rows, one of which has no response."""
    records = generate_records(n, seed)
    return [
        {
            "instruction": record.instruction,
            "context": record.context,
            "response": record.response if index else "",
            "category": record.task,
        }
        for index, record in enumerate(records)
    ]


MEMBERS, NONMEMBERS = rows(1), rows(2)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([json.dumps(row) for row in MEMBERS + NONMEMBERS], 400)


def tiny(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A model with random weights, large enough that it does more than guess among all tokens."""
    torch.manual_seed(3)
    ids = {f"{name}_token_id": tokenizer.eos_token_id for name in ("bos", "eos", "pad")}
    config = config_class(family)(vocab_size=len(tokenizer), **ids, **SIZES[family])
    return new_model(config)


def write(path: Path, side: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(map(json.dumps, side)), encoding="utf-8")
    return path


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
    audits = {"membership", "memorization", "blocks", "known_text", "records", "template"}
    assert set(audit.results.audit) == audits
    assert audit.results.metric.tolist().count("never_missing") == 1
    assert "no never-seen records were given" in str(audit)


def test_a_missing_population_is_told_before_the_first_pass(
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def passed(*_: object) -> None:
        raise AssertionError("a forward pass was run")

    tiny("gpt2", tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    sides = [write(tmp_path / f"{n}.jsonl", side) for n, side in enumerate((MEMBERS, NONMEMBERS))]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CausalLM, "hidden", passed)
    with pytest.raises(SystemExit):
        main(
            [
                *("validate", "-c", "audits/external", "-c", "audits/utility", "--run_dir=run"),
                *("--model.source=model", f"--data.members={sides[0]}"),
                f"--data.nonmembers={sides[1]}",
            ]
        )
    assert "no population 'never', only external, held_out" in capsys.readouterr().err


@contextmanager
def unchanged(model: PreTrainedModel) -> Iterator[None]:
    """Checks that a model, and torch's random numbers, are afterwards what they were."""

    def state() -> tuple[object, ...]:
        modules = list(model.named_modules())
        return (
            [(name, type(module), module.training) for name, module in modules],
            [
                [len(module._forward_hooks), len(module._forward_pre_hooks)]
                + [len(module._backward_hooks), len(module._backward_pre_hooks)]
                for _, module in modules
            ],
            [(id(one), one.requires_grad, id(one.grad)) for one in model.parameters()],
            model.config.to_dict(),
            model.generation_config.to_dict(),
        )

    before, weights = state(), {name: one.clone() for name, one in model.state_dict().items()}
    random = torch.get_rng_state()
    try:
        yield
    finally:
        assert state() == before
        assert torch.equal(torch.get_rng_state(), random)
        assert all(torch.equal(one, weights[name]) for name, one in model.state_dict().items())


@pytest.fixture
def used(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A GPT-2 in the middle of its owner's work: with modes, a gradient, frozen weights, a hook."""
    model = tiny("gpt2", tokenizer).train()
    model.transformer.h[0].eval()
    model.transformer.wpe.requires_grad_(False)
    model.transformer.ln_f.weight.grad = torch.ones_like(model.transformer.ln_f.weight)
    model.transformer.h[1].register_forward_hook(lambda *_: None)
    return model


def test_a_model_that_was_handed_over_is_as_it_was(
    used: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    other = tiny("gpt2", tokenizer).train()
    attacks, signals = kd_privacy.attacks, kd_privacy.signals
    with unchanged(used), unchanged(other):
        audit = kd_privacy.audit(
            used,
            tokenizer,
            MEMBERS,
            NONMEMBERS,
            attacks=[attacks.Reference(), attacks.GradNorm(), attacks.MoPe()],
            memorization=[kd_privacy.metrics.ExactMatch(0)],
            blocks=[signals.HiddenProbe(), signals.BlockMoPe()],
            reference=other,
            max_records=12,
            template="alpaca",
            progress=False,
        )
    assert audit["grad_norm"].members.scores.shape == (11,)
    assert audit["mope"].auroc.n_nonmembers == 11


def test_a_model_is_as_it_was_after_an_error(
    used: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    nn.init.constant_(used.transformer.ln_f.bias, float("inf"))
    with pytest.raises(FloatingPointError, match="cannot be scored"), unchanged(used):
        kd_privacy.audit(used, tokenizer, MEMBERS, NONMEMBERS, template="alpaca", progress=False)


def test_a_model_of_half_precision_is_told_of(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny("gpt2", tokenizer).to(torch.bfloat16)
    audit = kd_privacy.audit(
        model, tokenizer, MEMBERS, NONMEMBERS, template="alpaca", progress=False
    )
    assert any("the model computes in bfloat16" in warning for warning in audit.warnings)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


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
    assert told.membership is not None
    assert told.membership.figure.value == audited["loss"].auroc.value
    assert answer.caution.startswith("this model knows nothing of the text")
    assert [one.partition(":")[0] for one in answer.untested] == [
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
    assert content.count('class="picture"') == 1
    assert content.count('class="bar') == 1
    shown = re.sub(r"<[^>]+>", "", content)
    first = shown[shown.index(answer.question) : shown.index("Open:")]
    assert answer.sentence.partition(". ")[0] in first
    assert not re.search(r"[a-z]_[a-z]|\w=\w", first), "a name of the code"
    assert sorted(one.name for one in page.parent.iterdir()) == [
        "audit.json",
        "index.html",
        "results.parquet",
        "scores.parquet",
    ]
    for name in ("results", "scores"):
        saved = pd.read_parquet(page.parent / f"{name}.parquet")
        assert list(saved.columns) == SCHEMAS[name].names
        pd.testing.assert_frame_equal(saved, getattr(audited, name))
    everything = text + content + audited.results.to_csv() + audited.scores.to_csv()
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


def test_rows_are_the_same_records_in_every_form(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", MEMBERS)
    read = given_records(path, "members")
    forms = (str(path), MEMBERS, Dataset.from_list(MEMBERS), read, tuple(MEMBERS))
    for form in forms:
        again = given_records(form, "members")
        assert [(one.id, one.content, one.task) for one in again] == [
            (one.id, one.content, one.task) for one in read
        ]
    without = [{name: row[name] for name in ("instruction", "response")} for row in MEMBERS[1:]]
    assert {one.task for one in given_records(without, "members", "open_qa")} == {"open_qa"}


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


def test_an_unknown_reference_is_named(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny("gpt2", tokenizer)
    with pytest.raises(kd_privacy.UserError, match="'base'; reference names none"):
        kd_privacy.audit(
            model,
            tokenizer,
            MEMBERS,
            NONMEMBERS,
            attacks=[kd_privacy.attacks.Reference()],
            template="alpaca",
            progress=False,
        )


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
