"""Private text stays in `private/`: every other file of real runs and of their report is searched.

A teacher and its student of SeqKD run with all audits and planted canaries, as a study would, on
records whose own ids are mail addresses, and under pseudonyms.
"""

import json
import logging
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pandas as pd
import pytest

from datamodules.canaries import Canary
from datamodules.manifest import read_manifest as read_split_manifest
from datamodules.records import InstructionRecord, content_id
from datamodules.synthetic import generate_records
from kd_privacy.cli import main
from studies.plan.cells import Plan
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from studies.report import write_report
from studies.run.cell_state import CellFiles
from tests.integration.conftest import ROOT

N_RECORDS = 160
WINDOW = 24
AUDITS = """\
trainer:
  callbacks+:
    - class_path: callbacks.MembershipAudit
      init_args:
        every_n_validations: 0
        save_statistics: true
        populations: [private, canary_in]
        blind: {folds: 3, repeats: 1}
        attacks:
          - class_path: audits.membership.attacks.Loss
          - class_path: audits.membership.attacks.Lowercase
          - class_path: audits.membership.attacks.SaMIA
            init_args: {samples: 2}
    - class_path: callbacks.MemorizationAudit
      init_args: {every_n_validations: 0}
    - class_path: callbacks.ExposureAudit
      init_args: {every_n_validations: 0, max_candidates: 1000, sample_candidates: 100}
    - class_path: callbacks.UtilityAudit
      init_args: {every_n_validations: 0, population: private, max_prompts: 16, samples: 1,
        max_new_tokens: 48}
    - class_path: callbacks.transfer.TransferAudit
      init_args: {span_tokens: 6}
"""
STUDY = """\
name: secrets
data: builtin
families: [gpt2-tiny]
techniques:
  - {fragment: seqkd, overrides: {model.responses.sampling.max_new_tokens: 48}}
controls: []
audits: [AUDITS]
overrides:
  model.network.config.n_layer: 2
  model.network.config.n_head: 2
  model.network.config.n_embd: 32
  model.optimizer.lr: 4e-3
  data.source: SOURCE
  data.pseudonymise: true
  data.vocabulary: 512
  data.batch_size: 8
  data.canaries.coin: 40
  data.canaries.exposure_per_level: 2
  data.canaries.repetitions: [1, 4]
  trainer.max_epochs: 2
  trainer.check_val_every_n_epoch: 2
  trainer.accelerator: cpu
  trainer.enable_progress_bar: false
"""


def own_id(number: int) -> str:
    """What a record is called in its file."""
    return f"person.{number}@example.org"


def own_subject(number: int) -> str:
    """Whose a record is."""
    return f"Ms Owner-{number // 2}"


@dataclass(frozen=True)
class Finished:
    """A finished study, and what its runs said on the terminal and to logging."""

    plan: Plan
    out: Path
    said: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "audits.yaml").write_text(AUDITS)
    source = folder / "records.jsonl"
    rows = [
        {
            **{name: getattr(one, name) for name in ("instruction", "context", "response")},
            **{"category": one.task, "id": own_id(number), "subject": own_subject(number)},
        }
        for number, one in enumerate(generate_records(N_RECORDS, seed=0))
    ]
    source.write_text("\n".join(map(json.dumps, rows)))
    study = STUDY.replace("AUDITS", str(folder / "audits.yaml")).replace("SOURCE", str(source))
    (folder / "study.yaml").write_text(study)
    patch = pytest.MonkeyPatch()
    patch.chdir(ROOT)
    patch.setattr(sys, "argv", ["kd-privacy"])
    # The charts' JavaScript is the same for every study, and long to make and to search.
    patch.setattr("studies.report.render.vega_bundle", str)
    log = folder / "log.txt"
    handler = logging.FileHandler(log)
    logging.getLogger().addHandler(handler)
    loud = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch")]
    for logger in loud:
        logger.addHandler(handler)
    try:
        plan = make_plan(read_study(folder / "study.yaml"), folder / "out")
        with log.open("a") as said, redirect_stdout(said), redirect_stderr(said):
            for cell in plan.cells:
                main(list(cell.arguments))
                CellFiles(cell).write("done", {"seconds": 1.0, "versions": {}, "machine": "x86"})
            write_report(plan, folder / "out")
        yield Finished(plan, folder / "out", log.read_text())
    finally:
        patch.undo()
        for logger in [logging.getLogger(), *loud]:
            logger.removeHandler(handler)


def private_records(run: Path) -> tuple[list[InstructionRecord], list[InstructionRecord]]:
    """Records of the pool, whose text is private in one world or the other, and all others."""
    pool = {
        row.content
        for row in read_split_manifest(run / "private" / "manifest.parquet")
        if row.split in ("private", "held_out")
    }
    records = generate_records(N_RECORDS, seed=0)
    inside = [record for record in records if record.content in pool]
    return inside, [record for record in records if record.content not in pool]


def windows(texts: Sequence[str], known: str) -> list[bytes]:
    """Beginning, middle and end of every text, where nothing that is public says the same."""
    found = set()
    for text in texts:
        for start in (0, (len(text) - WINDOW) // 2, len(text) - WINDOW):
            window = text[max(0, start) : max(0, start) + WINDOW]
            if len(window) == WINDOW and window not in known:
                found.add(window.encode())
    return sorted(found)


def needles(run: Path) -> tuple[list[bytes], list[bytes]]:
    """What must not be found: pieces of private records; canaries and their bare secrets."""
    inside, others = private_records(run)
    assert min(len(inside), len(others)) > 30
    known = "\n".join(f"{one.instruction}\n{one.context}\n{one.response}" for one in others)
    texts = [text for one in inside for text in (one.instruction, one.context, one.response)]
    lines = (run / "private" / "canaries.jsonl").read_text().splitlines()
    canaries = [Canary(**json.loads(line)) for line in lines]
    secrets = [one.secret for one in canaries if len(one.secret) >= 8]
    planted = [text for one in canaries for text in (one.instruction, one.record().response)]
    return windows(texts, known), [text.encode() for text in [*secrets, *planted]]


def contents(folder: Path, *, private: bool) -> dict[Path, bytes]:
    """Every file inside or outside folders called private; tables in plain text as well."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ("private" in path.relative_to(folder).parts) == private:
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += pd.read_parquet(path).to_csv().encode()
            if path.suffix == ".html":
                content += unescape(content.decode()).encode()
            found[path] = content
    return found


def test_no_file_outside_private_holds_private_text(finished: Finished) -> None:
    teacher = Path(finished.plan.cells[0].run_dir)
    pieces, secrets = needles(teacher)
    assert len(pieces) > 100
    assert len(secrets) > 100
    outside = contents(finished.out, private=False)
    kinds = {path.suffix for path in outside}
    assert {".parquet", ".yaml", ".ckpt", ".safetensors", ".html", ".csv", ".json"} <= kinds
    assert sum("tfevents" in path.name for path in outside) == len(finished.plan.cells) == 2
    for path, content in [*outside.items(), (Path("log"), finished.said.encode())]:
        leaked = [one for one in [*pieces, *secrets] if one in content]
        assert not leaked, (path, leaked[:3])


def test_no_file_outside_private_calls_a_record_as_its_file_does(finished: Finished) -> None:
    """Nor by the hash of what it says: under a key nobody finds it by hashing."""
    subjects = {own_subject(number) for number in range(N_RECORDS)}
    own = [*map(own_id, range(N_RECORDS)), *subjects]
    hashes = [record.content for record in generate_records(N_RECORDS, seed=0)]
    names = [one.encode() for one in [*own, *hashes, *map(content_id, subjects)]]
    outside = contents(finished.out, private=False)
    for path, content in [*outside.items(), (Path("log"), finished.said.encode())]:
        leaked = [one for one in names if one in content]
        assert not leaked, (path, leaked[:3])
    assert len(finished.said) > 100
    inside = b"".join(contents(finished.out, private=True).values())
    assert all(one.encode() in inside for one in [*own, *hashes])


def test_the_cells_of_a_study_call_a_record_alike(finished: Finished) -> None:
    folders = [Path(cell.run_dir) / "private" for cell in finished.plan.cells]
    keys = {(folder / "pseudonym.key").read_bytes() for folder in folders}
    assert keys == {(finished.out / "private" / "pseudonym.key").read_bytes()}
    first, second = (pd.read_parquet(folder / "records.parquet") for folder in folders)
    pd.testing.assert_frame_equal(first, second)
    assert first["id"].tolist() == [own_id(number) for number in range(N_RECORDS)]
    scores = pd.read_parquet(finished.out / "scores.parquet")
    judged = scores[scores["population"].isin(["private", "held_out"])]
    by_role = [set(own["record"]) for _, own in judged.groupby("run")]
    assert by_role[0] == by_role[1] <= set(first["record"])


def test_tables_of_single_records_are_their_owners(finished: Finished) -> None:
    modes: dict[bool, set[int]] = {True: set(), False: set()}
    for path in contents(finished.out, private=False):
        if path.suffix == ".parquet":
            of_records = "record" in pd.read_parquet(path).columns
        elif path.parent.name == "tables":
            of_records = "record" in path.read_text().partition("\n")[0].split(",")
        else:
            continue
        modes[of_records or path.stem in ("worst_records", "exposed_records")].add(mode(path))
    assert modes[True] == {0o600}
    assert modes[False] == {mode(finished.out / "report" / "index.html")}
    for cell in finished.plan.cells:
        export = Path(cell.run_dir) / "export"
        assert {mode(path) for path in export.iterdir()} == {mode(export / "README.md")}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_search_finds_what_is_there(finished: Finished) -> None:
    """The same search over a private folder meets records, and canaries with their secrets."""
    teacher = Path(finished.plan.cells[0].run_dir)
    pieces, secrets = needles(teacher)
    inside = b"".join(contents(teacher, private=True).values())
    assert sum(one in inside for one in secrets) > 0.9 * len(secrets)
    assert sum(one in inside for one in pieces) > 0.2 * len(pieces)


def test_private_folders_are_closed(finished: Finished) -> None:
    folders = [Path(cell.run_dir) / "private" for cell in finished.plan.cells]
    for folder in folders:
        assert mode(folder) == 0o700
        names = {path.name for path in folder.iterdir()}
        kept = {"manifest.parquet", "canaries.jsonl", "continuations.parquet", "statistics"}
        assert kept <= names
    assert any(name.startswith("teacher-responses-") for name in names)


def test_teacher_and_student_have_canary_rows(finished: Finished) -> None:
    """Membership and one-run epsilon on the coin series, exposure on the other, for both."""
    rows = pd.read_parquet(finished.out / "results.parquet")
    for role in ("teacher", "student"):
        own = rows[rows.role == role]
        coins = own[own.population == "canary_in"]
        loss = coins[(coins.name == "loss") & coins.task.isna()]
        assert loss[loss.metric == "auroc"].lower.notna().all()
        epsilon = loss[loss.metric == "epsilon_lower"]
        params = epsilon.params.map(json.loads)
        assert [one["unit"] for one in params] == ["record"] * 2
        assert [one["delta"] for one in params] == [0, pytest.approx(40**-1.1)]
        assert (epsilon.lower >= 0).all()
        assert (epsilon.n_members + epsilon.n_nonmembers == 40).all()
        exposed = own[(own.population == "canary_exposure") & (own.metric == "exposure")]
        assert exposed.value.notna().all()
    page = pd.read_csv(finished.out / "report" / "tables" / "memorization.csv")
    coins = page[page.population == "canary_in"]
    shown = set(zip(coins.run.str.split("-").str[0], coins.metric, strict=True))
    assert {(role, "epsilon_lower") for role in ("teacher", "student")} <= shown


def test_a_student_has_rows_of_its_channels(finished: Finished) -> None:
    """Its distance from the teacher; and records that lie in the text it was trained on."""
    rows = pd.read_parquet(finished.out / "results.parquet")
    distance = rows[(rows.metric == "teacher_kl") & rows.task.isna()]
    assert distance.role.tolist() == ["student"]
    assert (distance.value > 0).all()
    overlap = rows[rows.metric == "transfer_overlap"].set_index("population")
    assert (overlap.role == "student").all()
    assert set(overlap.index) == {"private", "held_out", "never"}
    assert overlap.value.between(0, 1).all()
    gaps = rows[rows.metric == "transfer_overlap_gap"]
    assert len(gaps) == 2
    expected = overlap.value["private"] - overlap.value["never"]
    assert gaps[gaps.params.str.contains("never")].value.item() == pytest.approx(expected)


def test_a_revealed_report_is_private_and_shows_text(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pictures are those that the other report drew.
    monkeypatch.setattr("studies.report.page.write_charts", lambda specs, folder: None)
    before = contents(finished.out / "report", private=False)
    page = write_report(finished.plan, finished.out, reveal=True)
    assert page == finished.out / "private" / "report.html"
    pieces, _ = needles(Path(finished.plan.cells[0].run_dir))
    text = unescape(page.read_text(encoding="utf-8").replace("<mark>", "").replace("</mark>", ""))
    assert any(one.decode() in text for one in pieces)
    for path, content in before.items():
        if path.suffix == ".html":
            content = path.read_bytes()
            assert not any(one in content for one in pieces)
