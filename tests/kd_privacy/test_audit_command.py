"""`kd-privacy audit`: a stranger's model and records, one command, from an empty folder."""

import hashlib
import json
import shlex
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import kd_privacy
from audits.answer.console import LINES
from audits.answer.gate import MEASURED
from datamodules.record_names import RecordNames
from datamodules.tokenizer import train_tokenizer
from kd_privacy.__main__ import main
from kd_privacy.given_records import given_records
from kdmodules.models.causal_lm import CausalLM
from tests.audit_schema import valid_audit
from tests.processes import ROOT

PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)
TABLES = ("results", "scores", "memorization")


def records(first: int, n: int = 12) -> list[dict[str, str]]:
    """Rows of one task, each with an answer of its own."""
    return [
        {
            "instruction": f"What is the code of locker {number}?",
            "response": f"Locker {number} opens with {number * 7919 % 99991:05d}, then turn left.",
            "category": "open_qa",
        }
        for number in range(first, first + n)
    ]


MEMBERS, NONMEMBERS, NEVER = records(100), records(300), records(500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's folder: a model that plain transformers fine-tuned and saved, and records."""
    home = tmp_path_factory.mktemp("stranger")
    tokenizer = train_tokenizer([json.dumps(row) for row in MEMBERS + NONMEMBERS + NEVER], 300)
    torch.manual_seed(0)
    ids = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eos_token_id)
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=512, **ids)
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    texts = [PROMPT.format(**row) + row["response"] + tokenizer.eos_token for row in MEMBERS]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch.input_ids.where(batch.attention_mask.bool(), -100)
    for _ in range(60):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name in ("my-model", "teacher", "student", "other-student"):
        if name == "student":  # it knows less of everything
            torch.manual_seed(1)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(0.1 * torch.randn_like(weight))
        model.eval().save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
    sides = {"train": MEMBERS, "unseen": NONMEMBERS, "never": NEVER}
    for name, rows in sides.items():
        lines = "\n".join(map(json.dumps, rows))
        (home / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return home


def files_hash(folder: Path) -> str:
    """What the page says that a model's hash is: of the names and hashes of its files."""
    lines = [
        f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"
        for name in ("config.json", "model.safetensors")
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def contents_hash(rows: list[dict[str, str]]) -> str:
    """The same of records: of the sorted hashes of their texts."""
    texts = ("\x1f".join((row["instruction"], "", row["response"])) for row in rows)
    contents = sorted(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts)
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def documented(folder: Path, first: str) -> list[str]:
    """Returns the words of a command of the page, its files named from anywhere."""
    page = (ROOT / "docs" / "audit_your_model.md").read_text(encoding="utf-8")
    commands = page.replace("\\\n", " ").splitlines()
    found = next(line for line in commands if line.startswith(f"kd-privacy {first}"))
    words = shlex.split(found)[1:]
    return [str(folder / word) if (folder / word).exists() else word for word in words]


@pytest.fixture
def words(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The page's command for one model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return documented(folder, "audit ./my-model")


def test_one_command_from_an_empty_folder_gives_the_rows_of_the_function(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    gate = Path("gate.txt")
    gate.write_text("membership/loss.auroc.value < 0.8  # too low\n", encoding="utf-8")
    assert main([*words, "--batch_size", "8", "--fail_if", str(gate)]) == 0
    said = capsys.readouterr()
    order = [said.err.index(word) for word in ("records ", "template ", "device ", "blind gate")]
    assert order == sorted(order)
    lines = {line.split()[0]: line for line in said.out.splitlines() if line.strip()}
    assert len(said.out.splitlines()) <= LINES
    assert {"membership", "memorization", "blocks", "utility", "page", "summary"} <= set(lines)
    assert lines["membership"].split()[1] == "undecided:"
    assert float(lines["membership"].split()[3]) > 0.8
    out = Path("audit-my-model")
    found = kd_privacy.audit(
        folder / "my-model",
        None,
        folder / "train.jsonl",
        folder / "unseen.jsonl",
        memorization=None,
        blocks=None,
        utility=None,
        batch_size=8,
        template="alpaca",
        progress=False,
    )
    for name in TABLES:
        saved = pd.read_parquet(out / f"{name}.parquet")
        pd.testing.assert_frame_equal(saved, getattr(found, name), check_exact=True)
    summary = valid_audit(out / "audit.json")
    (tested,) = summary["tested"]
    assert tested["model"]["weights"] == {"of": "files", "hash": files_hash(folder / "my-model")}
    assert [(one["side"], one["source"], one["records"]) for one in tested["records"]] == [
        ("members", "train.jsonl", 12),
        ("nonmembers", "unseen.jsonl", 12),
    ]
    assert tested["records"][0]["sha256"] == contents_hash(MEMBERS)
    assert str(folder) not in json.dumps(summary)
    loss = next(one for one in summary["figures"] if one["name"] == "loss")
    assert loss["value"] == found["loss"].auroc.value
    assert (loss["n_members"], loss["n_nonmembers"]) == (12, 12)
    verdicts = {one["name"]: one["word"] for one in summary["verdicts"]}
    assert verdicts["loss"] == "undecided"
    assert any("no never-seen records" in note for note in summary["notes"])
    page = (out / "index.html").read_text(encoding="utf-8")
    for text in (page, said.out, said.err, json.dumps(summary)):
        assert not any(row["response"] in text for row in MEMBERS + NONMEMBERS)
    assert "Verdict" in page
    assert 'data-spec="blocks"' in page
    assert main(words) == 2
    assert "audit-my-model is not empty" in capsys.readouterr().err
    left_out = ["--no-memorization", "--no-blocks", "--no-utility"]
    assert main([*words, "--force", *left_out, "--pseudonymise"]) == 0
    assert not (out / "memorization.parquet").exists()
    names = set(pd.read_parquet(out / "private" / "records.parquet")["record"])
    assert set(pd.read_parquet(out / "scores.parquet")["record"]) == names
    assert names.isdisjoint(found.scores["record"])
    key = RecordNames.of(out / "private" / "pseudonym.key", None)
    assert {one.id for one in key.renamed(given_records(folder / "train.jsonl", "members"))} < names


@pytest.fixture
def _no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def passed(*_: object) -> None:
        raise AssertionError("a forward pass was run")

    monkeypatch.setattr(CausalLM, "hidden", passed)


@pytest.mark.usefixtures("_no_pass")
@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--members", "lost.jsonl"], "--members lost.jsonl: there is no such file"),
        (["--nonmembers", "MEMBERS"], "members and nonmembers are both"),
        (["--never", "MEMBERS"], "members and never are both"),
        (["--attacks", "loss,minkk"], "--attacks minkk: no such attack (did you mean min_k?)"),
        (["--attacks", "rmia"], "--attacks rmia: it takes several reference models"),
        (["--attacks", "reference"], "an attack reads the reference model 'base'"),
        (["--template", "chatml"], "template 'chatml': there is no such file"),
        (["--score", "everything"], "score is 'everything'"),
        (["--dtype", "float64"], "dtype is 'float64'"),
        (["--device", "abacus"], "device is abacus"),
        (["--columns", "response"], "'response' is no list such as response=answer"),
        (["--batch_sise", "8"], "--batch_sise: no such option (did you mean --batch_size?)"),
        (["-c", "audits/external"], "an audit takes no -c"),
        (["--max_records", "1"], "max_records is 1: give 2 or more"),
        (["--max_tokens", "600"], "max_tokens is 600 but the model's window is 512"),
        (["--counterfactual", "S"], "--counterfactual is a student's: give the --teacher too"),
        (["--reference", "nowhere/"], "nowhere/"),
        (["--fail_if", "membership > 1"], "'membership > 1' is no file, and no line such as"),
        (
            ["--fail_if", "membership.auroc.vale > 1"],
            "no field is named vale (did you mean va",
        ),
        (["--fail_if", "membership/los.auroc.value > 1"], "did you mean loss?"),
        (["--fail_if", "membership/reference.auroc.value > 1"], "no attack is named reference"),
        (["--fail_if", "membership.tpr_at_fpr_0.001.value > 1"], "did you mean tpr_at_fpr_0.01?"),
        (["--fail_if", "student:membership.auroc.value > 1"], "no model is named student"),
        (
            ["--no-blocks", "--fail_if", "blocks.auroc.value > 1"],
            "blocks is left out of this audit",
        ),
    ],
)
def test_a_mistake_ends_in_one_line_before_any_pass(
    more: list[str],
    line: str,
    folder: Path,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(folder / "train.jsonl") if word == "MEMBERS" else word for word in more]
    assert main([*words, *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert line in said
    assert list(Path.cwd().iterdir()) == []


def auroc(scores: pd.DataFrame) -> float:
    inside, outside = (
        scores[scores.population == name].score.tolist() for name in ("external", "held_out")
    )
    higher = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    return higher / (len(inside) * len(outside))


def test_a_gate_that_fails_ends_with_status_three_and_tells_every_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "membership/loss.tpr_at_fpr_0.01.lower > 0.05",
        "audit:membership.auroc.value > 0.8",
        "membership/min_k.auroc.value > 2",
    ]
    gate = [word for line in lines for word in ("--fail_if", line)]
    left_out = ["--no-memorization", "--no-blocks", "--no-utility"]
    assert main([*words, *left_out, *gate]) == 3
    failed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert failed[0] == f"failed: {lines[0]}: of audit it is not measurable (12 + 12 records)"
    assert failed[1].startswith(f"failed: {lines[1]}: of audit it is ")
    assert len(failed) == 2
    assert (Path("audit-my-model") / "audit.json").is_file()


@pytest.fixture(scope="module")
def pair(folder: Path) -> Path:
    """What the page's command for a student and its teacher writes."""
    with chdir(folder):
        assert main(documented(folder, "audit ./student")) == 0
    return folder / "pair"


def test_what_a_student_inherits_is_what_a_plain_count_finds(pair: Path) -> None:
    results, scores, written = (pd.read_parquet(pair / f"{name}.parquet") for name in TABLES)
    assert set(results.run) == {"student", "teacher", "counterfactual"}
    whole = results[results.task.isna() & results.run_b.notna()]
    scores = scores[scores.name == "loss"]
    student, teacher = (auroc(scores[scores.run == run]) for run in ("student", "teacher"))
    assert teacher > student > 0.5
    loss = whole[whole.name == "loss"]
    leakage = loss[loss.metric == "relative_leakage"].iloc[0]
    assert leakage.value == pytest.approx((student - 0.5) / (teacher - 0.5))
    assert (leakage.run, leakage.run_b) == ("student", "teacher")
    swap = loss[loss.metric == "swap_estimate"].iloc[0]
    assert (swap.value, swap.run_b) == (0.5, "counterfactual")
    accuracy = written[(written.name == "token_accuracy")].set_index(["run", "population"])
    curves = whole[(whole.name == "conditional") & (whole.metric == "token_accuracy")]
    curves = curves[(curves.run == "student") & (curves.population == "external")]
    assert len(curves) == 7
    for row in curves.itertuples():
        taught, learnt = (accuracy.loc[(run, "external")] for run in ("teacher", "student"))
        values = dict(zip(learnt.record, learnt.value, strict=True))
        tau = json.loads(row.params)["tau"]
        above = [values[one] for one, v in zip(taught.record, taught.value, strict=True) if v > tau]
        assert row.n_members == len(above)
        assert not above or row.value == pytest.approx(sum(above) / len(above))
    assert set(results[results.metric == "teacher_kl"].run) == {"student"}
    page = (pair / "index.html").read_text(encoding="utf-8")
    specs = json.loads(page.split('id="specs">')[1].split("</script>")[0])
    sampled = ["extraction_0", "extraction_1"]
    assert list(specs) == ["conditional", *sampled, "attacks", "roc", "roc_log"]
    drawn = [row for rows in specs["attacks"]["datasets"].values() for row in rows]
    labels = {"Student": student, "Teacher": teacher, "Counterfactual student": student}
    for label, value in labels.items():
        (own,) = (one for one in drawn if (one.get("label"), one.get("attack")) == (label, "Loss"))
        assert own["value"] == pytest.approx(value)
    assert '"Counterfactual student":"Student"' in page
    assert "What the student inherits" in page
    assert "Student: membership" in page
    summary = valid_audit(pair / "audit.json")
    assert [one["run"] for one in summary["models"]] == ["student", "teacher", "counterfactual"]
    measured = {audit: names.split() for audit, names in MEASURED.items()}
    shown = results[results.task.isna() & results.audit.isin(measured)]
    shown = shown[["audit", "metric"]].drop_duplicates()
    assert [row for row in shown.values.tolist() if row[1] not in measured[row[0]]] == []
    assert any(one["metric"] == "swap_estimate" for one in summary["figures"])
    assert "Added by the private records" in page
    assert "beyond its counterfactual" in page
    assert not any("no counterfactual student" in note for note in summary["notes"])


def test_a_pair_of_models_in_memory_says_what_one_pair_cannot(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models = [
        AutoModelForCausalLM.from_pretrained(folder / name, attn_implementation="sdpa")
        for name in ("teacher", "student")
    ]
    tokenizer = AutoTokenizer.from_pretrained(folder / "my-model")
    pair = kd_privacy.audit_pair(
        *models,
        tokenizer,
        MEMBERS,
        NONMEMBERS,
        memorization=False,
        blocks=False,
        template="alpaca",
        progress=False,
    )
    assert "no counterfactual student" in str(pair)
    assert "swap_estimate" not in set(pair.inherited.metric)
    assert set(pair.inherited.metric) >= {"relative_leakage"}
    scores = pair.student.scores
    assert pair.student["loss"].auroc.value == pytest.approx(auroc(scores[scores.name == "loss"]))
    student, teacher = pair.answer.models
    assert student.membership is not None
    assert student.membership.figure.value == pair.student["loss"].auroc.value
    assert teacher.utility is not None
    assert student.utility_beside is not None
    assert student.utility_beside == ("teacher", teacher.utility.figure)
    assert student.swap is None
