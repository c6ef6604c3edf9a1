"""Plans: the matrix, the commands, and which change makes which cells new."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from studies.plan.cells import Plan
from studies.plan.planner import make_plan
from studies.plan.settings import Settings
from studies.plan.study_file import read_study
from tests.processes import ROOT

PlanOf = Callable[..., Plan]


def ids(plan: Plan) -> dict[str, str]:
    return {cell.stage: cell.id for cell in plan.cells}


def changed(before: Plan, after: Plan) -> set[str]:
    old, new = ids(before), ids(after)
    return {stage for stage in old if old[stage] != new[stage]}


def test_cells_come_after_what_they_need(plan_of: PlanOf) -> None:
    seen: set[str] = set()
    for cell in plan_of().cells:
        assert set(chain(*cell.needs.values())) <= seen
        seen.add(cell.id)
    assert len(seen) == 5


def test_what_is_shown_first_runs_first(tmp_path: Path) -> None:
    """Two cells at a time: teacher and control, then kd and what the others start from."""
    plan = make_plan(read_study(ROOT / "configs/studies/quickstart.yaml"), tmp_path)
    assert [cell.alias for cell in plan.cells[:4]] == [
        "teacher-gpt2_mini-r7",
        "control-gpt2_tiny-r7",
        "init-gpt2_tiny-r7",
        "student-kd-gpt2_tiny-r7",
    ]
    roles = [str(cell.role) for cell in plan.cells]
    assert max(place for place, role in enumerate(roles) if role == "student") < min(
        place for place, role in enumerate(roles) if role.startswith("counterfactual")
    )


def test_a_command_holds_fragments_in_order_then_options(plan_of: PlanOf) -> None:
    plan = plan_of()
    student = next(cell for cell in plan.cells if cell.stage == "student")
    teacher = ids(plan)["teacher"]
    assert student.command == (
        "OMP_NUM_THREADS=1 kd-privacy fit -c configs/base/student.yaml -c configs/data/tiny.yaml "
        "-c configs/families/tiny.yaml -c configs/techniques/kd.yaml "
        "-c configs/audits/membership.yaml "
        f"--run_dir runs/small/cells/{student.id} "
        f"--model.teacher runs/small/cells/{teacher}/export --run.name student-kd-tiny-r1 "
        "--run.role student --run.technique kd --threads 1 --seed_everything 1 --data.splits.seed 1"
    )


def test_cells_share_the_key_of_pseudonyms_which_makes_none_of_them_new(
    project: Path, plan_of: PlanOf
) -> None:
    def keys(plan: Plan) -> set[str]:
        return {cell.options["data.pseudonymise"] for cell in plan.cells}

    plan = plan_of(data__pseudonymise=True)
    key = project / "runs/small/private/pseudonym.key"
    assert keys(plan) == {str(key.relative_to(project))}
    assert changed(plan_of(), plan) == set(ids(plan))
    key.parent.mkdir(parents=True)
    key.write_text("0" * 64)
    assert plan_of(data__pseudonymise=True) == plan
    study = read_study("configs/studies/small.yaml")
    elsewhere = make_plan(study, Path("runs/other"), {"data.pseudonymise": True})
    assert ids(elsewhere) == ids(plan)
    assert keys(elsewhere) == {"runs/other/private/pseudonym.key"}
    named = plan_of(data__pseudonymise="./mine.key")
    assert keys(named) == {"./mine.key"}
    (project / "mine.key").write_text("0" * 64)
    assert ids(plan_of(data__pseudonymise="./mine.key")) == ids(named)
    (project / "configs/data/tiny.yaml").write_text("data:\n  pseudonymise: true\n")
    assert keys(plan_of()) == keys(plan)


def test_the_swap_teacher_takes_the_teachers_recipe(plan_of: PlanOf) -> None:
    for cell in plan_of().cells:
        has_recipe = "configs/recipes/teacher/mini.yaml" in cell.arguments
        assert has_recipe == (cell.stage in ("teacher", "counterfactual_teacher"))


def test_the_tiny_networks_of_all_families_share_a_recipe(project: Path, plan_of: PlanOf) -> None:
    for name in ("families/opt-tiny", "families/llama-tiny", "families/opt-large"):
        (project / f"configs/{name}.yaml").write_text("model: {}\n")
    recipes = project / "configs/recipes/kd"
    recipes.mkdir()
    for name in ("gpt2-tiny", "gpt2-large", "llama-tiny"):
        (recipes / f"{name}.yaml").write_text("model: {lr: 0.3}\n")
    study = project / "configs/studies/small.yaml"
    sizes = "[opt-tiny, llama-tiny, opt-large]"
    study.write_text(study.read_text().replace("sizes: [tiny]", f"sizes: {sizes}"))
    found = {
        cell.size: [Path(path).stem for path in cell.fragments if "recipes/kd" in path]
        for cell in plan_of().cells
        if cell.stage == "student"
    }
    assert found == {"opt-tiny": ["gpt2-tiny"], "llama-tiny": ["llama-tiny"], "opt-large": []}


def test_a_fragment_changes_its_cells_and_what_is_downstream(
    project: Path, plan_of: PlanOf
) -> None:
    before = plan_of()
    (project / "configs/techniques/kd.yaml").write_text("model: {lr: 0.1}\n")
    technique = plan_of()
    assert changed(before, technique) == {"student", "counterfactual"}
    (project / "configs/base/teacher.yaml").write_text("model: {lr: 0.1}\n")
    teacher = plan_of()
    assert changed(technique, teacher) == {"teacher", "student"}
    (project / "records.jsonl").write_text('{"instruction": "b"}\n')
    assert len(changed(teacher, plan_of())) == 5


def test_a_comment_or_another_folder_changes_nothing(project: Path, plan_of: PlanOf) -> None:
    before = plan_of()
    path = project / "configs/techniques/kd.yaml"
    path.write_text("# another comment\n" + path.read_text())
    assert not changed(before, plan_of())
    moved = make_plan(read_study("configs/studies/small.yaml"), Path("elsewhere"))
    assert ids(before) == ids(moved)


def test_where_a_teachers_answers_are_kept_changes_nothing(project: Path, plan_of: PlanOf) -> None:
    before = plan_of(model__teacher_cache__folder="runs/cache")
    (project / "runs/cache").mkdir(parents=True)
    (project / "runs/cache/index.json").write_text("{}")
    assert not changed(before, plan_of(model__teacher_cache__folder="runs/cache"))
    assert not changed(before, plan_of(model__teacher_cache__folder="elsewhere/cache"))
    assert changed(before, plan_of(model__teacher_cache__kind="top_k"))


def test_threads_and_overrides_are_part_of_a_cell(project: Path, plan_of: PlanOf) -> None:
    before = plan_of()
    study = read_study("configs/studies/small.yaml")
    assert len(changed(before, make_plan(study, Path("runs/small"), threads=2))) == 5
    one = plan_of(stages__student__trainer__max_epochs=3)
    assert changed(before, one) == {"student"}
    (student,) = (cell for cell in one.cells if cell.stage == "student")
    assert "--trainer.max_epochs 3" in student.command
    (project / "copy.jsonl").write_bytes((project / "records.jsonl").read_bytes())
    first = plan_of(data__source="./records.jsonl")
    assert not changed(first, plan_of(data__source="./copy.jsonl"))


def test_an_override_for_an_unknown_stage_is_refused(plan_of: PlanOf) -> None:
    with pytest.raises(UserError, match="stages.tutor.a: no such stage; .*stages.teacher"):
        plan_of(stages__tutor__a=1)


def test_a_techniques_own_fragments_are_laid_over_its_students_alone(
    project: Path, plan_of: PlanOf
) -> None:
    before = plan_of()
    preset = project / "configs/presets/other.yaml"
    preset.parent.mkdir()
    preset.write_text("model: {lr: 0.2}\n")
    recipe = project / "configs/recipes/kd/tiny.yaml"
    recipe.parent.mkdir()
    recipe.write_text("model: {lr: 0.3}\n")
    study = project / "configs/studies/small.yaml"
    text = study.read_text()
    content = yaml.safe_load(text)
    content["techniques"] = [
        "kd",
        {"fragment": "kd", "label": "kd_other", "fragments": ["configs/presets/other.yaml"]},
    ]
    study.write_text(yaml.safe_dump(content))
    plan = plan_of()
    for cell in plan.cells:
        has_preset = "configs/presets/other.yaml" in cell.arguments
        assert has_preset == (cell.technique == "kd_other")
        if has_preset:
            order = [
                cell.arguments.index(f"configs/{name}")
                for name in ("techniques/kd.yaml", "recipes/kd/tiny.yaml", "presets/other.yaml")
            ]
            assert order == sorted(order)
    assert {cell.technique for cell in plan.cells} == {None, "kd", "kd_other"}
    assert ids(before)["teacher"] == ids(plan)["teacher"]


def test_the_matrix_multiplies(project: Path) -> None:
    path = project / "configs/studies/small.yaml"
    text = path.read_text().replace("sizes: [tiny]", "sizes: [tiny, mini]")
    text = text.replace("techniques: [kd]", "techniques: [kd, {fragment: gkd, start: init}]")
    path.write_text(text + "replicates: [1, 2]\nseeds: [0, 1]\n")
    plan = make_plan(read_study(path), Path("runs/small"))
    count = {stage: sum(c.stage == stage for c in plan.cells) for stage in ids(plan)}
    # 2 replicates; x 2 sizes x 2 seeds for students' stages; x 2 techniques for the distilled.
    assert count == {
        "teacher": 2,
        "counterfactual_teacher": 2,
        "init": 8,
        "control": 8,
        "student": 16,
        "counterfactual": 16,
    }
    assert len({cell.alias for cell in plan.cells}) == len(plan.cells)
    assert {cell.seed for cell in plan.cells} == {1, 2, 10_001, 10_002}
    by_id = {cell.id: cell for cell in plan.cells}
    for cell in plan.cells:
        for needed in chain(*cell.needs.values()):
            other = by_id[needed]
            assert other.replicate == cell.replicate
            assert other.stage != "init" or (other.size, other.seed) == (cell.size, cell.seed)
        starts = "model.network.source" in cell.needs
        assert starts == (cell.technique == "gkd")


def test_a_student_that_starts_from_its_teacher_gets_the_same_cell_twice(
    project: Path, plan_of: PlanOf
) -> None:
    path = project / "configs/studies/small.yaml"
    other = "{fragment: gkd, start: teacher}"
    path.write_text(path.read_text().replace("techniques: [kd]", f"techniques: [kd, {other}]"))
    plan = plan_of()
    teachers = {"student": "teacher", "counterfactual": "counterfactual_teacher"}
    for cell in plan.cells:
        if cell.technique != "gkd":
            assert "model.network.source" not in cell.needs
            continue
        teacher = next(other for other in plan.cells if other.stage == teachers[cell.stage])
        needed = (teacher.id,)
        assert cell.needs == {"model.teacher": needed, "model.network.source": needed}
        words = list(cell.arguments)
        for option in ("--model.teacher", "--model.network.source"):
            assert words[words.index(option) + 1] == f"{teacher.run_dir}/export"
        assert "--model.network.depth_stride" not in words
    assert "init" not in {cell.stage for cell in plan.cells}


def test_what_an_init_run_wrote_is_not_pruned_again(project: Path, plan_of: PlanOf) -> None:
    path = project / "configs/studies/small.yaml"
    text = path.read_text().replace("techniques: [kd]", "techniques: [{fragment: kd, start: init}]")
    path.write_text(text)
    for cell in plan_of().cells:
        stride = "--model.network.depth_stride 1" in cell.command
        assert stride == (cell.stage in ("student", "counterfactual"))


def test_a_family_says_where_all_its_students_start(project: Path) -> None:
    path = project / "configs/studies/small.yaml"
    line = next(one for one in path.read_text().splitlines() if "sizes: [tiny]" in one)
    healed = line.replace("sizes: [tiny]", "sizes: [mini], start: init")
    path.write_text(path.read_text().replace(line, f"{line}\n{healed}"))
    plan = make_plan(read_study(path), Path("runs/small"))
    assert {cell.size for cell in plan.cells if cell.stage == "init"} == {"mini"}
    assert sum(cell.stage == "teacher" for cell in plan.cells) == 1
    for cell in plan.cells:
        if cell.technique is not None:
            assert ("model.network.source" in cell.needs) == (cell.size == "mini")


def test_a_plan_survives_json(plan_of: PlanOf) -> None:
    plan = plan_of()
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


ENSEMBLE = """\
stages:
  teacher_2:
    role: teacher
    base: teacher
    model: teacher
    overrides: {data.private_part: 1}
  student:
    needs: {model.teacher: [teacher, teacher_2]}
"""


def test_one_option_is_given_several_stages(project: Path, plan_of: PlanOf) -> None:
    before = plan_of()
    path = project / "configs/studies/small.yaml"
    path.write_text(path.read_text() + ENSEMBLE)
    plan = plan_of()
    by_stage = {cell.stage: cell for cell in plan.cells}
    student, first, second = (by_stage[name] for name in ("student", "teacher", "teacher_2"))
    assert student.needs == {"model.teacher": (first.id, second.id)}
    order = [cell.stage for cell in plan.cells]
    assert order.index("teacher_2") < order.index("student")
    value = student.arguments[student.arguments.index("--model.teacher") + 1]
    assert yaml.safe_load(value) == [f"{cell.run_dir}/export" for cell in (first, second)]
    # The others are the cells of a study without an ensemble.
    assert {name: by_stage[name].id for name in ids(before) if name != "student"} == {
        name: value for name, value in ids(before).items() if name != "student"
    }
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    path.write_text(path.read_text().replace("private_part: 1", "private_part: 0"))
    assert changed(plan, plan_of()) == {"teacher_2", "student"}
    path.write_text(path.read_text().replace("[teacher, teacher_2]", "[teacher]"))
    assert ids(plan_of())["student"] == ids(before)["student"]


def test_shadow_worlds_add_references_of_every_audited_pair(project: Path, plan_of: PlanOf) -> None:
    study = project / "configs/studies/small.yaml"
    before = plan_of()
    study.write_text(study.read_text() + "shadows: 2\n")
    after = plan_of()
    cells = {cell.alias: cell for cell in after.cells}
    shadows = {alias: cell for alias, cell in cells.items() if cell.role == "reference"}
    assert sorted(shadows) == [
        "shadow-kd-tiny-r1-w0",
        "shadow-kd-tiny-r1-w1",
        "shadow_teacher-mini-r1-w0",
        "shadow_teacher-mini-r1-w1",
    ]
    for world in (0, 1):
        teacher = cells[f"shadow_teacher-mini-r1-w{world}"]
        student = cells[f"shadow-kd-tiny-r1-w{world}"]
        assert student.needs["model.teacher"] == (teacher.id,)
        for cell in (teacher, student):
            place = cell.arguments.index("--data.splits.shadow")
            assert cell.arguments[place + 1] == str(world)
            assert "configs/audits/membership.yaml" not in cell.arguments
        judged = {"teacher": teacher, "counterfactual_teacher": teacher}
        judged |= {"student": student, "counterfactual": student}
        for cell in after.cells:
            option = f"references.models.shadow{world}"
            expected = judged.get(cell.stage) if cell.role != "reference" else None
            assert cell.needs.get(option) == (None if expected is None else (expected.id,))
    assert "--data.splits.shadow" not in cells["teacher-mini-r1"].arguments
    seeds = [cell.seed for cell in shadows.values()]
    assert len(set(seeds)) == 2
    assert cells["teacher-mini-r1"].seed not in seeds
    control = {cell.id for cell in before.cells if cell.stage == "control"}
    assert control <= {cell.id for cell in after.cells}


def test_a_number_in_scientific_notation_is_one() -> None:
    assert (
        Settings({"model": {"lm_coef": yaml.safe_load("1e-1")}}).number("model.lm_coef", 0) == 0.1
    )
    with pytest.raises(UserError, match="model.lm_coef is 'some': give a number"):
        Settings({"model": {"lm_coef": "some"}}).number("model.lm_coef", 0)
