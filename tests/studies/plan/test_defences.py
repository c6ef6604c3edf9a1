"""Defences of a study: what they are laid over and compared with, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from audits.results import merge_runs, read_table
from common.errors import UserError
from studies.claims.figures import StudyFigures
from studies.compare.comparisons import comparison_pairs, teaching
from studies.compare.shown_techniques import as_they_ran
from studies.plan.cells import Cell, Plan
from studies.plan.study_file import read_study
from studies.report.labels import run_labels
from tests.studies.planted import write_planted

PlanOf = Callable[..., Plan]
TEACHERS = "configs/defences/noisy.yaml"
STUDENTS = "configs/defences/filtered.yaml"
OPTION = "model.optimizer.weight_decay"


@pytest.fixture
def defended(project: Path) -> Callable[..., None]:
    """Adds keys to the study file of `project`, which has a defence of each kind."""
    contents = {
        TEACHERS: {"optimizer": {"weight_decay": 0.5}},
        STUDENTS: {"responses": {"class_path": "kdmodules.responses.DatasetResponses"}},
        "configs/defences/both.yaml": {"responses": None, "split": "private"},
    }
    for path, options in contents.items():
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text(yaml.safe_dump({"model": {"init_args": options}}))

    def write(defences: object, **keys: object) -> None:
        study = project / "configs/studies/small.yaml"
        content = yaml.safe_load(study.read_text())
        study.write_text(yaml.safe_dump({**content, "defences": defences, **keys}))

    return write


def named(plan: Plan) -> dict[str, Cell]:
    return {cell.alias: cell for cell in plan.cells}


def test_a_teachers_defence_is_laid_over_every_teacher_and_followed_by_what_they_teach(
    defended: Callable[..., None], plan_of: PlanOf
) -> None:
    before = named(plan_of())
    lora = Path("configs/adapters/lora.yaml")
    lora.parent.mkdir()
    lora.write_text("model: {}\n")
    entry = {"fragment": "noisy", "label": "dp-8", "fragments": ["lora"]}
    defended([{**entry, "overrides": {OPTION: 0.7}}], shadows=1)
    plan = plan_of()
    cells = named(plan)
    undefended = {alias for alias, cell in cells.items() if cell.defence is None}
    assert undefended - set(before) == {"shadow_teacher-mini-r1-w0", "shadow-kd-tiny-r1-w0"}
    assert cells["control-tiny-r1"] == before["control-tiny-r1"]
    of_defence = {cell.stage: cell for cell in plan.cells if cell.defence == "dp-8"}
    assert set(of_defence) == {
        *("shadow_teacher", "teacher", "counterfactual_teacher"),
        *("shadow", "student", "counterfactual"),
    }
    for stage, cell in of_defence.items():
        assert (TEACHERS in cell.fragments) == stage.endswith("teacher")
        assert (cell.options.get(OPTION) == "0.7") == stage.endswith("teacher")
        needed = [one for one in plan.cells if one.id in sum(cell.needs.values(), ())]
        assert {one.defence for one in needed} <= {"dp-8"}
        assert "under_dp-8" in cell.alias
    assert of_defence["teacher"].fragments[-2:] == (str(lora), TEACHERS)
    assert {cell.defence for cell in plan.cells if cell.stage == "control"} == {None}


def test_a_students_defence_leaves_teachers_alone(
    defended: Callable[..., None], plan_of: PlanOf
) -> None:
    defended(["filtered"], undefended=False, techniques=["kd", "gkd"])
    plan = plan_of()
    assert {(cell.stage, cell.technique, cell.defence) for cell in plan.cells} == {
        *((stage, None, None) for stage in ("teacher", "counterfactual_teacher", "control")),
        *(
            (stage, technique, "filtered")
            for stage in ("student", "counterfactual")
            for technique in ("kd", "gkd")
        ),
    }
    for cell in plan.cells:
        assert (STUDENTS in cell.fragments) == (cell.defence is not None)


def test_a_defence_may_be_for_some_techniques_and_without_counterfactuals(
    defended: Callable[..., None], plan_of: PlanOf
) -> None:
    entry = {"fragment": "noisy", "techniques": ["gkd"], "counterfactual": False}
    defended([entry], techniques=["kd", "gkd"])
    found = [(c.stage, c.technique) for c in plan_of().cells if c.defence]
    assert found == [("teacher", None), ("student", "gkd")]
    undefended = [c.stage for c in plan_of().cells if c.defence is None]
    assert undefended.count("student") == undefended.count("counterfactual") == 2


def test_pairs_are_of_one_defence_and_findings_of_none(
    defended: Callable[..., None], plan_of: PlanOf, project: Path
) -> None:
    defended(["noisy", "filtered"])
    plan = plan_of()
    pairs = [(one, other) for one, other in comparison_pairs(plan.cells)]
    assert len(pairs) == 2 + 3 * 2
    for one, other in pairs:
        assert other.role == "control" or one.defence == other.defence
    teachers = [cell for cell in plan.cells if cell.role == "teacher"]
    for cell in plan.cells:
        if cell.role == "student":
            (teacher,) = teaching(teachers, cell)
            assert [teacher.id] == list(cell.needs["model.teacher"])
    for cell in plan.cells:
        write_planted(Path(cell.run_dir), cell.alias, cell.role, cell.seed)
    merge_runs([cell.run_dir for cell in plan.cells], project / "merged")
    results = read_table(project / "merged", "results").to_pandas()
    figures = StudyFigures(plan, {cell.id: "done" for cell in plan.cells}, results)
    assert [cell.alias for cell in figures.students] == ["student-kd-tiny-r1"]


def test_labels_show_the_defence(defended: Callable[..., None], plan_of: PlanOf) -> None:
    defended([{"fragment": "noisy", "label": "dp-8"}])
    labels = run_labels(as_they_ran(plan_of(), {}))
    assert labels["teacher-mini-r1"] == "Teacher"
    assert labels["teacher-under_dp-8-mini-r1"] == "Teacher · dp-8"
    assert labels["student-kd-under_dp-8-tiny-r1"] == "Student · kd · dp-8"


def test_what_is_no_teacher_is_left_alone_and_may_be_needed_by_a_students_defence(
    defended: Callable[..., None], plan_of: PlanOf
) -> None:
    """A public start and the parts of an ensemble train a teacher's network, and are none."""
    part = {"role": "reference", "base": "teacher", "model": "teacher"}
    ensemble = {
        "fragment": "filtered",
        "counterfactual": False,
        "needs": {"model.teacher": ["part_0", "part_1"], "model.responses.public": "start"},
    }
    start = {"needs": {"model.network.source": "start"}}
    stages = {
        "start": {"role": "init", "model": "teacher"},
        **dict.fromkeys(("teacher", "counterfactual_teacher"), start),
        "part_0": part,
        "part_1": part,
    }
    defended([ensemble, "noisy"], stages=stages)
    cells = named(plan_of())
    for cell in cells.values():
        if cell.stage in ("start", "part_0", "part_1"):
            assert (cell.defence, TEACHERS in cell.fragments) == (None, False)
        if cell.stage == "teacher":
            assert cell.needs["model.network.source"] == (cells["start-mini-r1"].id,)
    needed = cells["student-kd-under_filtered-tiny-r1"].needs
    parts = tuple(cells[f"part_{part}-mini-r1"].id for part in (0, 1))
    assert needed == {
        "model.teacher": parts,
        "model.responses.public": (cells["start-mini-r1"].id,),
    }
    teacher = cells["teacher-under_noisy-mini-r1"].id
    assert cells["student-kd-under_noisy-tiny-r1"].needs == {"model.teacher": (teacher,)}


@pytest.mark.parametrize(
    ("defences", "message"),
    [
        (["nosy"], "no such fragment: configs/defences/nosy.yaml; there are both, filtered, noisy"),
        (["noisy", "noisy"], "'noisy' is there twice; give one a `label`"),
        (["both"], "sets options of students (responses) and of teachers (split)"),
        (
            [{"fragment": "filtered", "needs": {"model.teacher": "control"}}],
            "no stage 'control' of a teacher's network; there are teacher, counterfactual_teacher",
        ),
        (
            [{"fragment": "noisy", "needs": {"model.teacher": "teacher"}}],
            "only a defence of students",
        ),
        ([{"fragment": "noisy", "techniques": ["kt"]}], "no technique 'kt'; this study has kd"),
    ],
)
def test_a_mistaken_defence_is_named_with_its_line(
    defended: Callable[..., None], defences: object, message: str
) -> None:
    defended(defences)
    with pytest.raises(UserError) as error:
        read_study("configs/studies/small.yaml")
    assert "small.yaml:" in str(error.value)
    assert message in str(error.value)
