"""Repeats of one split: fresh seeds, the same records, and never replicates of a claim."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import yaml

from audits.results import read_table, write_part
from common.errors import UserError
from studies.claims.study import read_claims_data
from studies.compare.comparisons import comparison_pairs
from studies.compare.memorization import Accuracies
from studies.compare.tables import write_study_tables
from studies.plan.cells import Cell, Plan
from studies.plan.own_splits import require_replicates
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from studies.report.study_data import read_study_data
from studies.run.cell_state import CellFiles

PlanOf = Callable[..., Plan]
STUDY = Path("configs/studies/small.yaml")
OUT = Path("runs/small")


def planned(text: str) -> Plan:
    """The plan of the small study with further lines."""
    original = STUDY.read_text()
    STUDY.write_text(original + text)
    plan = make_plan(read_study(STUDY), OUT)
    STUDY.write_text(original)
    return plan


def by_alias(plan: Plan) -> dict[str, Cell]:
    return {cell.alias: cell for cell in plan.cells}


def split_seed(cell: Cell) -> str:
    return cell.arguments[cell.arguments.index("--data.splits.seed") + 1]


@pytest.mark.usefixtures("project")
def test_repeats_share_the_split_and_nothing_else() -> None:
    plan = planned("replicates: [3, 5]\nrepeats: 3\nseeds: [0, 1]\nshadows: 1\n")
    # A shadow world is one of the split, whatever repeat is judged by it.
    assert Counter(cell.stage for cell in plan.cells) == {
        **{"teacher": 6, "counterfactual_teacher": 6, "control": 12},
        **{"student": 12, "counterfactual": 12, "shadow_teacher": 2, "shadow": 4},
    }
    assert all(split_seed(cell) == str(cell.replicate) for cell in plan.cells)
    for stage in ("teacher", "student", "control"):
        seeds = [cell.seed for cell in plan.cells if cell.stage == stage]
        assert len(set(seeds)) == len(seeds)
    by_id = {cell.id: cell for cell in plan.cells}
    for cell in plan.cells:
        for needed in (by_id[one] for one in chain(*cell.needs.values())):
            same = (needed.replicate, needed.repeat) == (cell.replicate, cell.repeat)
            assert same or needed.stage.startswith("shadow")
    for cell, other in comparison_pairs(plan.cells):
        assert (cell.replicate, cell.repeat) == (other.replicate, other.repeat)
    student = by_alias(plan)["student-kd-tiny-r5-s1-repeat3"]
    assert (student.replicate, student.repeat, student.student_seed) == (5, 3, 1)
    assert student.seed == 5 + 10_000 + 2_000_000
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


@pytest.mark.usefixtures("project")
def test_the_first_repeat_is_the_study_without_any() -> None:
    alone, several = planned("replicates: [3]\n"), planned("replicates: [3]\nrepeats: 2\n")
    first = [cell for cell in several.cells if cell.repeat == 1]
    assert list(alone.cells) == first
    # A plan that was written before cells had a student seed of their own.
    written = alone.as_dict()
    cells = written["cells"]
    assert isinstance(cells, tuple)
    old = [{k: v for k, v in cell.items() if k != "student_seed"} for cell in cells]
    with pytest.raises(UserError, match="plan.json was written by another version: `kd-study run`"):
        Plan.from_dict({**written, "cells": old})


@pytest.mark.usefixtures("project")
def test_the_last_world_has_a_seed_that_generators_take() -> None:
    plan = planned("replicates: [3]\nrepeats: 99\nseeds: [99]\nshadows: 42\n")
    largest = max(cell.seed for cell in plan.cells)
    assert largest == 3 + 99 * 10_000 + 42 * 100_000_000
    assert np.random.RandomState(largest) is not None


@pytest.mark.usefixtures("project")
def test_more_worlds_have_seeds_of_their_own() -> None:
    plan = planned("replicates: [3]\nrepeats: 2\nshadows: 64\n")
    worlds = [cell for cell in plan.cells if cell.stage == "shadow_teacher"]
    seeds = {cell.seed for cell in worlds}
    assert len(worlds) == len(seeds) == 64
    assert not seeds & {cell.seed for cell in plan.cells if cell.world is None}
    assert max(seeds) < 2**32


@pytest.mark.usefixtures("project")
def test_the_never_seen_records_are_shared_where_the_study_says_so() -> None:
    option = "--data.splits.never_seed"
    plan = planned("replicates: [3, 5]\nshared_never: true\n")
    values = {cell.arguments[cell.arguments.index(option) + 1] for cell in plan.cells}
    assert values == {"0"}
    assert not any(option in cell.arguments for cell in planned("").cells)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("repeats: 0\n", "repeats: expected an integer of at least 1"),
        ("shared_never: 3\n", "shared_never: expected true or false"),
        (
            "replicates: [3, 5]\noverrides: {data.splits.seed: 5}\n",
            r"replicates: \[3, 5\] would share one split \(data.splits.seed is fixed at 5\), so "
            r"they are repeats and no replicates; write `replicates: \[3\]` and `repeats: 2`",
        ),
        (
            "replicates: [3, 5]\noverrides: {data.splits.protocol: as_released}\n",
            "splits by position",
        ),
        (
            "replicates: [3, 5]\nstages: {teacher: {fragments: [../base/released.yaml]}}\n",
            "splits by position",
        ),
    ],
)
def test_what_would_make_repeats_of_replicates_is_refused(text: str, message: str) -> None:
    Path("configs/base/released.yaml").write_text(
        "data: {class_path: x, init_args: {splits: {protocol: as_released}}}\n"
    )
    with pytest.raises(UserError, match=message):
        planned(text)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("text", "seed"),
    [
        ("replicates: [1, 10001]\nseeds: [0, 1]\n", 10_001),
        ("replicates: [3]\nrepeats: 2\nseeds: [100]\n", 1_000_003),
        ("replicates: [3]\nrepeats: 101\nshadows: 1\n", 100_000_003),
    ],
)
def test_independent_runs_never_share_a_seed(text: str, seed: int) -> None:
    with pytest.raises(UserError, match=f"small.yaml: .* would have the seed {seed}, and"):
        planned(text)


@pytest.mark.usefixtures("project")
def test_one_replicate_may_have_any_split() -> None:
    assert planned("replicates: [3]\noverrides: {data.splits.seed: 5}\n").cells
    assert planned("replicates: [3]\nrepeats: 2\noverrides: {data.splits.seed: 5}\n").cells


@pytest.mark.usefixtures("project")
def test_claims_refuse_replicates_that_were_trained_on_one_split() -> None:
    plan = planned("replicates: [3, 5]\n")

    def configure(splits: Callable[[Cell], dict[str, object]]) -> None:
        for cell in plan.cells:
            path = Path(cell.run_dir) / "config.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            config = {"data": {"init_args": {"splits": splits(cell)}}}
            path.write_text(yaml.safe_dump(config))

    configure(lambda cell: {"protocol": "swap", "seed": cell.replicate})
    require_replicates(plan)
    for one_split in (
        lambda cell: {"protocol": "swap", "seed": 7},
        lambda cell: {"protocol": "as_released", "seed": cell.replicate},
    ):
        configure(one_split)
        with pytest.raises(UserError, match="replicates 3 and 5 were trained on the same split"):
            read_claims_data(plan, OUT)


PRIVATE = [f"record-{i}" for i in range(40)]


def write_cell(cell: Cell, planted: ModuleType, private: list[str]) -> None:
    """A finished cell: every other private record is memorized by teachers and students."""
    files = CellFiles(cell)
    planted.write_planted(files.folder, cell.alias, cell.role, cell.seed)
    rng = np.random.default_rng(cell.seed)
    rows = []
    for population, records in (("private", private), ("never", [f"never-{i}" for i in range(30)])):
        for record in records:
            met = population == "private" and int(record.split("-")[1]) % 2 == 0
            value = 0.2 + 0.6 * (met and cell.role in ("teacher", "student"))
            shared = {"run": cell.alias, "step": planted.STEP, "record": record, "n_tokens": 20}
            own = {"population": population, "name": "token_accuracy", "params": {"tokens": 32}}
            rows.append({**shared, **own, "value": value + 0.01 * float(rng.normal())})
    write_part(files.folder, "memorization", planted.STEP, "memorization", rows)
    planted.merge_parts(files.folder)
    (files.folder / "export").mkdir()
    (files.folder / "export" / "model.txt").write_text(cell.alias)
    files.write("done", {"seconds": 75.0, "versions": {"torch": "2"}, "machine": "x86"})


def decomposition(plan: Plan) -> pd.DataFrame:
    write_study_tables(plan, OUT)
    rows = read_table(OUT, "results").to_pandas()
    return rows[rows["name"] == "decomposition"].set_index(["metric", "population"])


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_repeats_decide_every_record_that_replicates_leave_open(planted: ModuleType) -> None:
    """Three replicates that share a fifth of their private records, and three repeats of one."""
    repeats = planned("replicates: [3]\nrepeats: 3\n")
    for cell in repeats.cells:
        write_cell(cell, planted, PRIVATE)
    found = decomposition(repeats)
    assert found.loc[("inherited", "private"), "n_members"] == len(PRIVATE)
    assert found.loc[("inherited", "private"), "value"] == pytest.approx(0.5)
    assert found.loc[("inherited", "never"), "n_nonmembers"] == 30
    assert found.loc[("inherited_net", "private"), "lower"] > 0.2
    replicates = planned("replicates: [11, 12, 13]\n")
    for cell in replicates.cells:
        start = 32 * (cell.replicate - 11)
        own = [*PRIVATE[:8], *(f"record-{100 + i}" for i in range(start, start + 32))]
        write_cell(cell, planted, own)
    assert decomposition(replicates).loc[("inherited", "private"), "n_members"] == 8


@pytest.mark.usefixtures("project")
def test_repeats_are_one_replicate_of_claims_and_page(planted: ModuleType) -> None:
    plan = planned("replicates: [3, 5]\nrepeats: 3\n")
    for cell in plan.cells:
        write_cell(cell, planted, PRIVATE)
    write_study_tables(plan, OUT)
    data = read_claims_data(plan, OUT)
    panel = data.panel("membership", lambda cell: cell.technique)
    assert panel.replicates == panel.complete == (3, 5)
    students = [cell for cell in plan.cells if cell.role == "student" and cell.replicate == 3]
    assert len(students) == 3
    own = [data.figures.membership(cell) for cell in students]
    assert panel.values[0, 0] == pytest.approx(np.mean([float(one) for one in own]))
    page = read_study_data(plan, OUT)
    assert page.labels["student-kd-tiny-r3-repeat2"] == "Student · kd · r3 · repeat 2"
    assert page.labels["student-kd-tiny-r3"] == "Student · kd · r3 · repeat 1"
    assert page.kinds["student-kd-tiny-r3-repeat2"] == "Student · kd"


def test_the_teachers_of_a_run_are_those_of_its_repeat(project: Path) -> None:
    plan = planned("repeats: 2\n")
    accuracies = Accuracies(plan.cells, {}, {}, {}, {})
    student = by_alias(plan)["student-kd-tiny-r1-repeat2"]
    assert [one.alias for one in accuracies.teachers(student)] == ["teacher-mini-r1-repeat2"]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("seeds", "students"),
    [("[4]", {"Student · kd"}), ("[0, 4]", {"Student · kd · s0", "Student · kd · s4"})],
)
def test_labels_tell_student_seeds_apart_where_there_are_several(
    seeds: str, students: set[str], planted: ModuleType
) -> None:
    plan = planned(f"replicates: [3]\nseeds: {seeds}\nshadows: 2\n")
    for cell in plan.cells:
        if cell.role in ("teacher", "student"):
            write_cell(cell, planted, PRIVATE)
    write_study_tables(plan, OUT)
    labels = read_study_data(plan, OUT).labels
    assert {labels[cell.alias] for cell in plan.cells if cell.role == "student"} == students
    assert labels["teacher-mini-r3"] == "Teacher"
    assert {(c.student_seed, c.world) for c in plan.cells if c.stage == "shadow_teacher"} == {
        (None, 0),
        (None, 1),
    }
