"""The page's sections on objectives and on tasks: right means, intervals and counts."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from studies.plan.cells import Cell
from studies.report.parts import Text
from studies.report.sections.objectives import objective_rows, objectives
from studies.report.sections.tasks import task_figures, tasks
from studies.report.study_data import StudyData
from tests.studies.claims.tables import cell, plan_of, row

PRODUCT = ("jsd+dataset", "jsd+student", "taid+dataset")
BOUNDS = {"lower": 0.1, "upper": 0.9}


def study_data(cells: list[Cell], rows: list[dict[str, object]]) -> StudyData:
    labels = {one.alias: one.alias for one in cells}
    frame = pd.DataFrame(rows)
    frame = frame.assign(label=frame["run"], attack=frame["name"])
    return StudyData(
        plan=plan_of(cells),
        cells=tuple(cells),
        states={one.id: "done" for one in cells},
        labels=labels,
        kinds=labels,
        plain_labels=labels,
        results=frame,
        history=frame,
        technique_rows=frame[:0],
        scores={},
        facts={},
    )


def product_study(replicates: tuple[int, ...]) -> tuple[StudyData, dict[tuple[str, int], float]]:
    """AUROCs of a product and of a technique beside it, each minus 0.4 of its counterfactual."""
    rng = np.random.default_rng(0)
    cells, rows, values = [cell("control", None, 1)], [], {}
    for technique in (*PRODUCT, "kd"):
        for r in replicates:
            student, other = (cell(role, technique, r) for role in ("student", "counterfactual"))
            cells += [student, other]
            value = values[technique, r] = float(rng.uniform(0.6, 0.9))
            counts = {"n_members": 200 + r, "n_nonmembers": 190 - r, **BOUNDS}
            rows.append(row(student.alias, "loss", "auroc", value, **counts))
            rows.append(row(student.alias, "zlib", "auroc", 0.0, **counts))
            rows.append(row(other.alias, "loss", "auroc", 0.1, **counts))
            for run_b, less in ((other.alias, 0.4), (cells[0].alias, 0.7)):
                shared = counts | {"run_b": run_b}
                rows.append(row(student.alias, "loss", "auroc_difference", value - less, **shared))
            used = {"audit": "utility", "population": "never", "n_nonmembers": 50}
            rows.append(row(student.alias, "greedy", "rouge_l_f1", value / 2, **used))
    return study_data(cells, rows), values


def test_objectives_are_means_over_replicates() -> None:
    data, values = product_study((1, 2, 3))
    frame = objective_rows(data)
    assert len(frame) == len(PRODUCT) * 3
    for technique in PRODUCT:
        objective, source = technique.split("+")
        own = frame[(frame["objective"] == objective) & (frame["source"] == source)]
        own = own.set_index("measure")
        sample = np.array([values[technique, r] for r in (1, 2, 3)])
        interval = stats.t.interval(0.95, 2, sample.mean(), stats.sem(sample))
        risk = own.loc["auroc"]
        assert risk["value"] == pytest.approx(sample.mean())
        # An AUROC ends at 1, Student's t does not.
        assert (risk["lower"], risk["upper"]) == pytest.approx((interval[0], min(interval[1], 1.0)))
        assert (risk["n_members"], risk["n_nonmembers"], risk["replicates"]) == (201, 187, 3)
        assert own.loc["excess", "value"] == pytest.approx(sample.mean() - 0.4)
        assert own.loc["rouge_l_f1", "value"] == pytest.approx(sample.mean() / 2)


def test_a_single_run_keeps_its_interval_over_records() -> None:
    data, values = product_study((1,))
    risk = objective_rows(data).set_index(["measure", "objective", "source"])
    one = risk.loc[("auroc", "taid", "dataset")]
    assert (one["value"], one["lower"], one["upper"]) == (values["taid+dataset", 1], 0.1, 0.9)
    (table,) = objectives(data).tables.values()
    assert [column.title for column in table.columns][2:] == [
        *("AUROC", "Excess over the counterfactual", "ROUGE-L F1"),
        *("Replicates", "Private", "Held out"),
    ]
    texts = [[one.text for one in cells] for cells in table.rows]
    assert [text[:2] for text in texts] == [name.split("+") for name in PRODUCT]
    assert texts[0][2] == f"{values['jsd+dataset', 1]:.3f} [0.100, 0.900]"
    assert texts[0][-3:] == ["1", "201", "189"]


def test_maps_show_what_there_is_and_nothing_without_a_product() -> None:
    data, values = product_study((1,))
    specs = objectives(data).charts
    assert set(specs) == {"objective_auroc", "objective_excess", "objective_rouge"}
    ((shown),) = specs["objective_auroc"]["datasets"].values()
    found = {f"{one['source']}": one["value"] for one in shown if one["label"] == "jsd"}
    assert found == pytest.approx(
        {"dataset": values[PRODUCT[0], 1], "student": values[PRODUCT[1], 1]}
    )
    assert "Infinity" not in json.dumps(specs)
    plain = study_data([cell("student", "kd", 1)], [row("student-kd-r1", "loss", "auroc", 0.7)])
    assert not objectives(plain).parts
    assert not tasks(plain).shown
    assert set(tasks(plain).tables) == {"tasks"}


def task_study(replicates: tuple[int, ...]) -> StudyData:
    cells, rows = [], []
    for r in replicates:
        teacher, student, other = own = [
            cell("teacher", None, r),
            cell("student", "kd", r),
            cell("counterfactual", "kd", r),
        ]
        cells += own
        for number, task in enumerate(("open_qa", "closed_qa")):
            shared = {"task": task, "n_members": 30 + r, "n_nonmembers": 29, **BOUNDS}
            for one, base in ((teacher, 0.8), (student, 0.6), (other, 0.3)):
                value = base + 0.1 * number + 0.01 * r
                rows.append(row(one.alias, "loss", "auroc_at_equal_lengths", value, **shared))
                for ending, tokens in (("", 20.0 + 40 * number), ("_at_equal_lengths", 31.0)):
                    length = {"task": task}
                    metric = f"response_tokens{ending}"
                    rows.append(row(one.alias, "loss", metric, tokens, **length))
            swap = shared | {"run_b": other.alias}
            rows.append(row(student.alias, "loss", "swap_estimate_at_equal_lengths", 0.65, **swap))
            gap = shared | {"audit": "memorization"}
            metric = "token_accuracy_gap_at_equal_lengths"
            rows.append(row(student.alias, "token_accuracy", metric, 0.05, **gap))
    return study_data(cells, rows)


def test_tasks_of_several_replicates_are_one_row_each() -> None:
    data = task_study((1, 2))
    frame = task_figures(data)
    assert list(dict.fromkeys(frame["label"])) == ["Teacher", "Student · kd"]
    risk = frame[frame["measure"] == "task_auroc"].set_index(["label", "task"])
    one = risk.loc[("Student · kd", "closed_qa")]
    sample = np.array([0.71, 0.72])
    assert one["value"] == pytest.approx(sample.mean())
    interval = stats.t.interval(0.95, 1, sample.mean(), stats.sem(sample))
    assert (one["lower"], one["upper"]) == pytest.approx(interval)
    assert (one["n_members"], one["n_nonmembers"], one["replicates"]) == (31, 29, 2)
    assert (one["tokens"], one["all_tokens"]) == (31.0, 60.0)
    assert set(tasks(data).charts) == {"task_auroc", "task_swap", "task_gap"}
    sentence = tasks(data).parts[0]
    assert isinstance(sentence, Text)
    assert "31 private and 29 held-out records" in sentence.text
    assert "31 to 31 tokens" in sentence.text
    assert "20 to 60" in sentence.text


def test_the_table_of_tasks_has_every_figure_with_its_counts() -> None:
    table = tasks(task_study((1,))).tables["task_differences"]
    titles = [column.title for column in table.columns]
    rows = {(own[0].text, own[1].text): [one.text for one in own[2:]] for own in table.rows}
    assert titles[2:5] == ["AUROC", "Swap estimate of AUROC", "Gap in token accuracy"]
    assert rows["Teacher", "open qa"][:3] == ["0.810 [0.100, 0.900]", "—", "—"]
    assert rows["Student · kd", "open qa"][1] == "0.650 [0.100, 0.900]"
    assert rows["Student · kd", "closed qa"][3:] == ["1", "31", "29", "31.0", "60.0"]
    assert len(rows) == 4
