"""What a reader is told first: only what was measured, and the gravest before the rest."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from audits.known_text import AUDIT
from datamodules.manifest import write_manifest
from datamodules.records import InstructionRecord
from datamodules.splits import Placement
from studies.compare.comparisons import AttackScores
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.report.controls import control_notices
from studies.report.notices import notices
from studies.report.parts import Notice
from studies.report.sections.sure import worst_sentence
from studies.report.study_data import read_study_data
from studies.run.cell_state import CellFiles
from tests.studies.planted_report import cell, row, study
from tests.studies.shown_page import add_rows

OUT = Path("runs/small")


def notice_titles(plan: Plan) -> list[str]:
    write_study_tables(plan, OUT)
    return [one.title for one in notices(read_study_data(plan, OUT), out_of_date=False)]


def test_tasks_without_enough_records_take_one_sentence(
    finished: Plan, planted: ModuleType
) -> None:
    rare = {"name": "loss", "metric": "tpr_at_fpr_0.01"}
    add_rows(finished, planted, [rare | {"task": task} for task in planted.TASKS])
    write_study_tables(finished, OUT)
    found = notices(read_study_data(finished, OUT), out_of_date=False)
    lines = [one for one in found if "not measurable" in one.title]
    assert [one.title for one in lines] == ["TPR at 1% FPR: not measurable in 20 rows"]
    (within,) = [one for one in found if one.title.startswith("Within tasks")]
    assert within.level == "note"
    assert "In 3 tasks there are too few records for TPR at 1% FPR of some" in within.text
    assert "(15 rows" in within.text


def test_lengths_without_enough_records_are_in_that_sentence_too(
    finished: Plan, planted: ModuleType
) -> None:
    few = {"name": "token_accuracy", "metric": "token_accuracy", "audit": "memorization"}
    add_rows(finished, planted, [few | {"params": {"length": "1-15", "tokens": 32}}])
    write_study_tables(finished, OUT)
    found = notices(read_study_data(finished, OUT), out_of_date=False)
    assert not any("token" in one.title for one in found)
    (within,) = [one for one in found if one.title.startswith("Within tasks and lengths")]
    assert within.text.startswith("In some lengths of response there are too few records for ")
    assert "token accuracy of some runs (5 rows" in within.text


def test_shift_is_the_gravest_notice_and_its_absence_names_the_records_needed(
    finished: Plan,
) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    rows = data.results
    blind = rows[rows["audit"] == "membership"].head(1)
    blind = blind.assign(name="blind", metric="records_needed", value=697.0, shifted=None)
    unknown = replace(data, results=pd.concat([rows, blind]))
    texts = {found.title: found for found in notices(unknown, out_of_date=False)}
    note = texts["Shift between the record sets: not excluded"]
    assert (note.level, "697 records a side" in note.text) == ("caution", True)
    clear = replace(data, results=rows.assign(shifted=False))
    assert not any("Shift" in one.title for one in notices(clear, out_of_date=False))
    shifted = replace(data, results=rows.assign(shifted=True))
    assert notices(shifted, out_of_date=False)[0].title == "Shifted data"
    assert "learns the distribution of its side" in notices(shifted, out_of_date=False)[0].text


def test_single_records_are_judged_by_worlds_and_by_no_sides(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    rows = with_coins(data.results[data.results["audit"] == "membership"])
    pool = rows.head(1).assign(name="single_records", population="pool", shifted=None)
    found = replace(data, results=pd.concat([rows, pool.assign(metric="named")]))
    assert not any("Shift" in one.title for one in notices(found, out_of_date=False))


def test_a_guarantee_that_is_none_is_no_failed_measurement(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    none = data.results.head(1).assign(audit="guarantee", metric="auroc_upper", value=None)
    found = replace(data, results=pd.concat([data.results, none]))
    before = {one.title for one in notices(data, out_of_date=False)}
    assert {one.title for one in notices(found, out_of_date=False)} == before
    lost = replace(data, results=pd.concat([data.results, none.assign(audit="membership")]))
    assert {one.title for one in notices(lost, out_of_date=False)} > before


def with_coins(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows with those that say that coins dealt every run's sides."""
    said = rows[rows["audit"] == "membership"].drop_duplicates("run")
    coins = {"name": "balance", "metric": "dealt_by_coins", "value": 1.0, "population": "private"}
    return pd.concat([rows, said.assign(run_b=None, **coins)])


@pytest.mark.parametrize("shifted", [True, None, False])
def test_where_coins_dealt_the_sides_their_texts_are_luck(
    finished: Plan, shifted: bool | None
) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    rows = with_coins(data.results.assign(shifted=shifted))
    found = notices(replace(data, results=rows), out_of_date=False)
    told = [one for one in found if "hift" in one.title or "texts" in one.title]
    assert [one.title for one in told] == ["The coins dealt uneven texts"] * (shifted is True)
    assert all(one.level == "note" and "caps no verdict" in one.text for one in told)


def test_coins_excuse_the_sides_alone_that_they_dealt(finished: Plan) -> None:
    """Public against held-out records: other texts, and no coin between them."""
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    rows = with_coins(data.results.assign(shifted=None))
    public = rows[rows["audit"] == "membership"].assign(population="public", shifted=True)
    public = public[public["metric"] != "dealt_by_coins"]
    found = notices(replace(data, results=pd.concat([rows, public])), out_of_date=False)
    told = [one for one in found if "hift" in one.title or "texts" in one.title]
    assert [one.title for one in told] == ["Shifted data"]


def test_the_worst_student_promises_nothing_of_the_swap_estimate(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    text = worst_sentence(read_study_data(finished, OUT))
    assert "by the swap estimate (attack *Loss*) “Student" in text
    assert "no difference" not in text


@pytest.mark.parametrize(
    ("auroc", "level", "words"),
    [(0.5, "note", "excluded over all replicates"), (0.7, "alert", "Shifted data")],
)
def test_the_splits_of_all_replicates_are_judged_together(
    finished: Plan, auroc: float, level: str, words: str
) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    cells = [replace(data.cells[0], alias=f"r{one}", replicate=one) for one in range(5)]
    texts = {"name": "blind", "metric": "auroc", "params": '{"margin": 0.05}', "shifted": None}
    whole = {"task": None, "run_b": None, "population": "private"}
    line = data.results[data.results["audit"] == "membership"].head(1)
    rows = []
    for one in cells:
        value = auroc + 0.01 * ((one.replicate or 0) - 2)
        figures = {"run": one.alias, "value": value, "lower": value - 0.1, "upper": value + 0.1}
        rows.append(line.assign(**texts, **whole, **figures))
    study = replace(data, cells=tuple(cells), results=pd.concat(rows))
    (found,) = [one for one in notices(study, out_of_date=False) if "hift" in one.title]
    assert found.level == level
    assert words in found.title
    coins = replace(study, results=with_coins(study.results))
    (dealt,) = [one for one in notices(coins, out_of_date=False) if "split" in one.title] or [None]
    # Coins have no such luck five times.
    assert (dealt is not None and dealt.level == "alert") == (auroc == 0.7)
    assert f"mean AUROC of the texts alone {auroc:.3f}" in found.text


def test_a_control_is_clean_only_where_equivalence_is_shown(
    finished: Plan, planted: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planted, "RECORDS", 1500)
    control = next(cell for cell in finished.cells if cell.role == "control")
    planted.write_planted(CellFiles(control).folder, control.alias, "control", control.seed)
    assert "Control clean" in notice_titles(finished)
    planted.write_planted(CellFiles(control).folder, control.alias, "student", control.seed)
    assert "Control: AUROC differs from 0.5" in notice_titles(finished)


def alike(n: int) -> np.ndarray:
    """Returns scores [2, n] of two sides that are the same quantiles of one distribution."""
    return np.stack([stats.norm.ppf((np.arange(n) + 0.5) / n)] * 2)


def control_notice(plan: Plan, sides: np.ndarray, clusters: np.ndarray | None = None) -> Notice:
    """Returns what is said of the study's control with these scores [2, n] under the loss."""
    write_study_tables(plan, OUT)
    data = read_study_data(plan, OUT)
    control = next(cell for cell in data.cells if cell.role == "control")
    names = [[f"{side}-{i}" for i in range(sides.shape[1])] for side in ("in", "out")]
    scores = AttackScores(*(pd.Series(own, index=at) for own, at in zip(sides, names, strict=True)))
    if clusters is not None:
        placements = [
            Placement(InstructionRecord(record, "?", "", "!", "", ""), "", "private", "", one, 1, 0)
            for record, one in zip(np.ravel(names).tolist(), clusters.ravel().tolist(), strict=True)
        ]
        write_manifest(placements, Path(control.run_dir) / "private")
    study = replace(data, scores={control.alias: {("loss", "{}"): scores}})
    (found,) = control_notices(study)
    return found


def test_a_control_that_gives_a_few_records_away_whole_is_not_clean(finished: Plan) -> None:
    sides = alike(3000)
    assert control_notice(finished, sides).title == "Control clean"
    few = sides.copy()
    few[0, ::33] = 99.0  # 3%: the AUROC of 0.515 lies within the margin
    assert control_notice(finished, few).title == "Control: TPR lies above its FPR"
    fewer = sides.copy()
    fewer[0, ::80] = 99.0
    found = control_notice(finished, fewer)
    assert found.title == "Control: not shown to be clean"
    assert "TPR at 1% FPR at most 0.0" in found.text


def test_a_control_s_near_duplicates_count_once(finished: Plan) -> None:
    """Every record four times: 400 records a side, alike in law, do not show what 1,600 would."""
    sides = alike(400).repeat(4, axis=1)
    assert control_notice(finished, sides).title == "Control clean"
    assert "Near-duplicates are not known" in notice_titles(finished)
    ids = (np.arange(1600) // 4 + np.array([[0], [400]])).astype(str)
    found = control_notice(finished, sides, ids)
    assert found.title == "Control: not shown to be clean"
    data = replace(read_study_data(finished, OUT), scores={})
    told = notices(data, out_of_date=False)
    (unknown,) = [one for one in told if one.title == "Near-duplicates are not known"]
    assert "Control" not in unknown.text


def test_the_interval_of_controls_over_replicates_stays_an_auroc() -> None:
    """Two replicates: 99.9% of Student's t reach beyond [0, 1]; where they agree, everywhere."""
    for shift in (0.0, 0.3):
        cells = [cell("control", replicate=r) for r in (1, 2)]
        sides = [(alike(60)[0] + shift * r, alike(60)[1]) for r in (0, 1)]
        scores = {
            one.alias: {("loss", "{}"): AttackScores(*(pd.Series(side) for side in own))}
            for one, own in zip(cells, sides, strict=True)
        }
        rows = [row(one, "auroc", 0.5) for one in cells]
        (found,) = control_notices(replace(study(cells, rows), scores=scores))
        assert "99.9% interval [0.000, 1.000] contains 0.5" in found.text
        assert "inf" not in found.text
        assert "R = 2 replicates" in found.text


def test_an_equivalent_epsilon_without_a_value_has_no_line_of_its_own(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    changed = {"metric": "epsilon_equivalent_at_fpr_0.01", "value": None, "task": None}
    row = data.results.head(1).assign(**changed)
    with_null = replace(data, results=pd.concat([data.results, row], ignore_index=True))
    titles = [found.title for found in notices(with_null, out_of_date=False)]
    assert not any("epsilon" in title for title in titles)
    other = replace(with_null, results=with_null.results.replace(row["metric"].item(), "auroc"))
    unmeasured = [found.title for found in notices(other, out_of_date=False)]
    assert any(title.startswith("AUROC: not measurable") for title in unmeasured)


def test_skipped_records_are_told_once_for_all_models(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    data = read_study_data(finished, OUT)
    rows = data.results.assign(skipped=0.0)
    rows.loc[rows["name"] == "loss", "skipped"] = 3.0
    one = rows["name"].eq("zlib") & rows["run"].eq(finished.cells[0].alias)
    rows.loc[one, "skipped"] = 2.0
    found = notices(replace(data, results=rows), out_of_date=False)
    (told,) = [one for one in found if one.title == "Records without a score"]
    label = data.labels[finished.cells[0].alias]
    assert told.text.endswith(f"Loss 3 (all {len(finished.cells)} models); Zlib 2 ({label}).")


def test_a_model_that_guesses_is_told_of_first(finished: Plan, planted: ModuleType) -> None:
    row = {"audit": AUDIT, "name": "development_loss", "metric": "nats_per_token", "value": 7.6}
    before = notice_titles(finished)
    add_rows(finished, planted, [row])
    titles = notice_titles(finished)
    guessing = [one for one in titles if one.endswith(" guesses")]
    assert guessing
    assert titles == guessing + before
