"""The comparison, its verdicts and its files."""

import json
from pathlib import Path

import pytest

from benchmarks.lightning_step import Case, Run
from benchmarks.training_step import OURS, RENDITION, TRL, compare, main, require_same_work

CASE = Case("off", beta=0.5, on_policy=False, target=0.30)


def run(seconds: list[float], losses: list[float] | None = None) -> Run:
    return Run(seconds, losses or [1.0] * (len(seconds) + 1), [])


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # Rounds 1:4, 2:4 and 9:10; the ratio of the medians would be 2:4 by luck of none of them.
    runs = {
        OURS: [run([0.5, 1.5]), run([2.0, 2.0]), run([9.0, 9.0])],
        TRL: [run([4.0, 4.0]), run([4.0, 4.0]), run([10.0, 10.0])],
    }
    mine, theirs = compare(CASE, runs)
    assert (mine.seconds, theirs.seconds) == (2.0, 4.0)
    assert theirs.ratio == pytest.approx(0.5)
    assert (theirs.verdict, mine.verdict) == ("missed", "")


def test_the_target_is_against_trl_and_else_against_the_rendition() -> None:
    runs = {OURS: [run([1.0])], RENDITION: [run([4.0])]}
    assert [row.verdict for row in compare(CASE, runs)] == ["", "met"]
    rows = compare(CASE, {**runs, TRL: [run([2.0])]})
    assert [(row.way, row.verdict) for row in rows] == [
        (OURS, ""),
        (RENDITION, ""),
        (TRL, "missed"),
    ]


def test_ways_that_do_other_work_are_refused() -> None:
    mine = run([1.0], [1.0, 1.0])
    require_same_work(CASE, {OURS: mine, TRL: run([1.0], [1.04, 0.97])}, steps=1)
    with pytest.raises(RuntimeError, match="loss 1.1000"):
        require_same_work(CASE, {OURS: mine, TRL: run([1.0], [1.0, 1.1])}, steps=1)
    with pytest.raises(RuntimeError, match="took 3 steps"):
        require_same_work(CASE, {OURS: mine, TRL: run([1.0, 1.0])}, steps=1)


def test_an_unknown_case_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(SystemExit, match="off-policy, forward KL"):
        main(["--cases", "nothing"])


def test_the_benchmark_writes_its_table_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training_step.DOLLY", tmp_path / "none")
    monkeypatch.setattr("benchmarks.training_step.GPT2_TOKENIZER", tmp_path / "none")
    monkeypatch.setattr("benchmarks.training_step.is_installed", lambda: False)
    sizes = "--student 1 16 2 --teacher 1 16 2 --vocabulary 1050 --n_records 48 --new_tokens 2"
    main([*f"--rounds 1 --steps 1 --threads 1 {sizes} --out".split(), str(tmp_path)])
    table = (tmp_path / "training_step.md").read_text()
    assert capsys.readouterr().out == table
    content = json.loads((tmp_path / "training_step.json").read_text())
    assert content["setting"]["TRL"] == "not installed"
    assert {row["way"] for row in content["rows"]} == {OURS, RENDITION}
    verdicts = {row["way"]: row["verdict"] for row in content["rows"]}
    assert verdicts[RENDITION] in ("met", "missed")
    assert len(content["seconds"]["on-policy, jsd(0.5)"][OURS]) == 1
