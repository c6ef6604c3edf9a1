"""The page's worst records: the right ones, by id; their text only where it was asked for."""

import re
import stat
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import ModuleType

import pytest
from transformers import PreTrainedTokenizerFast

from audits.memorization.continuations import Continuation, write_continuations
from datamodules.tokenizer import train_tokenizer
from kd_privacy.study_cli import main
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.report.sections.worst_records import (
    find_worst_records,
    pieces,
    revealed,
    spans,
    worst_records_table,
)
from studies.report.study_data import read_study_data
from studies.run.cell_state import CellFiles, write_json
from tests.studies.compare.test_memorization import finish

PlanOf = Callable[..., Plan]
OUT = Path("runs/small")
SECRETS = ("the zebra dials 4711", "naïve <b>café</b> & 世界 🙃")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["the quick brown fox dials a number <b> & nothing else"] * 3, 280)


def text_of(number: int) -> str:
    return f"{SECRETS[number % 2]} record {number}"


@pytest.fixture
def plan(plan_of: PlanOf, planted: ModuleType, tokenizer: PreTrainedTokenizerFast) -> Plan:
    """A finished study whose teacher and student wrote half of each private response."""
    plan = plan_of()
    finish(plan, planted, lambda technique: 0.0)
    for cell in plan.cells:
        folder = CellFiles(cell).folder
        tokenizer.save_pretrained(folder / "export")
        kept = []
        for number in range(planted.RECORDS):
            prompt, true = (
                tuple(tokenizer(text)["input_ids"])
                for text in (f"question {number}: zanzibar?", text_of(number))
            )
            half = len(true) // 2
            own = (*true[:half], true[half] + 1, *true[half + 1 :])
            kept.append(Continuation(f"private-{number}", "private", prompt, true, own))
        write_continuations(kept, folder / "private")
    return plan


def test_the_worst_are_those_with_the_most_excess(plan: Plan, planted: ModuleType) -> None:
    write_study_tables(plan, OUT)
    data = read_study_data(plan, OUT)
    worst = find_worst_records(data)
    sides = {
        role: planted.planted_accuracy(role, 1)["private"]
        for role in ("student", "counterfactual", "teacher")
    }
    excess = sides["student"] - sides["counterfactual"]
    expected = sorted(range(planted.RECORDS), key=lambda i: -excess[i])[:5]
    assert [one.record for one in worst] == [f"private-{i}" for i in expected]
    for one, number in zip(worst, expected, strict=True):
        assert one.accuracy == pytest.approx(sides["student"][number])
        assert one.counterfactual == pytest.approx(sides["counterfactual"][number])
        assert one.teacher == pytest.approx(sides["teacher"][number])
    table = worst_records_table(data, worst)
    assert table.frame["record"].tolist() == [one.record for one in worst]
    assert all(set(row[-1].text) == {"●", "○"} for row in table.rows)


def words(text: str) -> str:
    return unescape(re.sub(r"</?mark>", "", text))


@pytest.mark.slow
def test_text_is_shown_only_if_asked_for(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    # The charts' JavaScript takes seconds to make, and is the same for every study.
    monkeypatch.setattr("studies.report.render.vega_bundle", str)
    write_json(OUT / "plan.json", plan.as_dict())
    command = ["report", "configs/studies/small.yaml", "--run_dir", str(OUT)]
    assert main(command) == 0
    masked = OUT / "report/index.html"
    worst = find_worst_records(read_study_data(plan, OUT))
    shown = [text_of(int(one.record.split("-")[1])) for one in worst]
    for path in (OUT / "report").rglob("*"):
        if path.is_file():
            content = words(path.read_text(encoding="utf-8", errors="replace"))
            assert not any(secret in content for secret in (*SECRETS, "zanzibar"))
    page = masked.read_text(encoding="utf-8")
    assert all(one.record in page for one in worst)
    assert "●●" in page
    assert not (OUT / "private").exists()

    assert main([*command, "--reveal"]) == 0
    shown_page = OUT / "private/report.html"
    assert stat.S_IMODE(shown_page.parent.stat().st_mode) == 0o700
    assert masked.read_text(encoding="utf-8").count("●") == page.count("●")
    assert "zanzibar" not in masked.read_text(encoding="utf-8")
    text = shown_page.read_text(encoding="utf-8")
    assert "shows private records in words" in text
    for secret in shown:
        assert secret in words(text), secret
    assert "<b>café" not in text
    assert re.search(r"<mark>[^<]*zebra[^<]*</mark>|<mark>[^<]*na", text)


def test_a_report_without_private_folders_has_ids_alone(plan: Plan) -> None:
    for cell in plan.cells:
        for path in (CellFiles(cell).folder / "private").iterdir():
            path.unlink()
    write_study_tables(plan, OUT)
    data = read_study_data(plan, OUT)
    worst = find_worst_records(data)
    assert len(worst) == 5
    assert revealed(data, worst) == []
    rows = worst_records_table(data, worst).rows
    assert {row[-1].text for row in rows} == {"—"}
    # The planted records have no task.
    assert {row[2].text for row in rows} == {"—"}


def test_pieces_join_to_the_text_and_marks_follow_tokens(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    text = SECRETS[1]
    ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    found = pieces(tokenizer, ids)
    assert len(found) == len(ids)
    assert "".join(found) == f"{text}<|endoftext|>"
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in found)
    true = tuple(ids[:6])
    written = (*true[:3], true[3] + 1, true[4])
    runs = spans(tokenizer, Continuation("r", "private", (), true, written))
    assert [matches for _, matches in runs] == [True, False, True]
    assert "".join(text for text, _ in runs) == "".join(pieces(tokenizer, written))
    longer = spans(tokenizer, Continuation("r", "private", (), true[:2], true))
    assert [matches for _, matches in longer] == [True, False]
