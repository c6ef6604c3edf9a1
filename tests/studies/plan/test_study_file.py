"""Study files: every mistake is named by file, line and key before anything runs."""

from pathlib import Path

import pytest

from common.errors import UserError
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from tests.processes import ROOT

REAL = ROOT / "configs" / "studies"


def edit(project: Path, old: str, new: str) -> Path:
    path = project / "configs/studies/small.yaml"
    text = path.read_text()
    if old not in text:
        raise ValueError(old)
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("audits:", "audit:", r"small.yaml:9: audit: unknown key; did you mean 'audits'"),
        (
            "data: tiny",
            "data: huge",
            r"small.yaml:4: data.fragment: no such fragment: .*huge.yaml; there",
        ),
        ("[kd]", "[kd, gdk]", r"small.yaml:7: techniques.1.fragment: no such fragment.*gkd"),
        ("[kd]", "[kd, kd]", r"small.yaml:7: techniques.1: 'kd' is there twice"),
        (
            "[kd]",
            "[{fragment: kd, start: tutor}]",
            r"small.yaml:7: techniques.0.start: expected one of network, init, teacher",
        ),
        ("sizes: [tiny]", "sizes: []", r"small.yaml:6: families.0.sizes: expected a list of at"),
        ("name: small", "name: a/b", r"small.yaml:1: name: expected a name"),
        ("name: small\n", "", r"small.yaml:1: the key 'name' is missing"),
        ("[control, count", "[kontrol, count", r"small.yaml:8: controls.0: expected one of"),
        ("audits: [mem", "seeds: [0, 0]\naudits: [mem", r"small.yaml:9: seeds: 0 is there twice"),
        ("audits: [mem", "data: tiny\naudits: [mem", r"small.yaml:9: key 'data' is given twice"),
        ("audits: [mem", "audits: [mem: {", r"small.yaml:\d+: invalid YAML"),
        ("data: tiny", "data: {fragment: tiny, overrides: {a: {b: 1}}}", r"small.yaml:4: .*dots"),
        ("audits: [mem", "threads_per_cell: 0\naudits: [mem", r"small.yaml:9: threads_per_cell"),
        (
            "audits: [mem",
            "repeats: 0\naudits: [mem",
            r":9: repeats: expected an integer of at least 1",
        ),
        (
            "audits: [mem",
            "seeds: [one]\naudits: [mem",
            r":9: seeds.0: expected an integer, found 'o",
        ),
        ("audits: [mem", "seeds: []\naudits: [mem", r":9: seeds: expected a list of at least 1"),
        ("audits: [membership]", "audits: membership", r":9: audits: expected a list, found 'memb"),
        ("audits: [membership]", "audits: [3]", r":9: audits.0: expected text, found 3"),
        ("A small study", "3", r"small.yaml:2: title: expected text, found 3"),
        (
            "audits: [mem",
            "overrides: 3\naudits: [mem",
            r":9: overrides: expected a mapping, found 3",
        ),
        ("audits: [mem", "stages: {a/b: {}}\naudits: [mem", r":9: stages.a/b: expected a name"),
        ("[kd]", "[[kd]]", r":7: techniques.0: expected a mapping, found \['kd'\]"),
    ],
)
def test_a_mistake_is_named_with_its_line(project: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_study(edit(project, old, new))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("  ghost: {overrides: {}}\n", r":11: stages.ghost: the key 'role' is missing"),
        ("  teacher: {role: teacher}\n", r":11: stages.teacher.role: unknown key"),
        (
            "  teacher:\n    needs: {model.network.source: probe}\n"
            "  probe: {role: base, base: teacher, model: teacher, needs: {x.y: teacher}}\n",
            r":12: stages.teacher.needs: teacher -> probe -> teacher is a cycle",
        ),
        ("  control:\n    needs: {a.b: init}\n", r":12: stages.control.needs.a.b: no stage 'init'"),
        ("  control:\n    needs: {a.b: student}\n", r":12: .*has a cell per technique"),
        ("  control:\n    needs: {a.b: [teacher, init]}\n", r":12: .*needs.a.b: no stage 'init'"),
        ("  control:\n    needs: {a.b: [teacher, teacher]}\n", r":12: .*'teacher' is there twice"),
        ("  control:\n    needs: {a.b: []}\n", r":12: .*expected a list of at least 1"),
        ("  control:\n    needs: {a.b: [1]}\n", r":12: .*needs.a.b.0: expected text"),
        ("  teacher:\n    needs: {a.b: control}\n", r":12: .*has a cell per size"),
        ("  init: {overrides: {a.b: 1}}\n", r":11: stages.init: this study has no such stage"),
        ("  probe: {role: init, base: none}\n", r":11: stages.probe.base: no such fragment"),
    ],
)
def test_a_mistaken_stage_is_named_with_its_line(project: Path, stages: str, message: str) -> None:
    path = edit(project, "audits: [membership]\n", "audits: [membership]\nstages:\n" + stages)
    with pytest.raises(UserError, match=message):
        read_study(path)


def test_a_start_from_a_teacher_needs_one(project: Path) -> None:
    edit(project, "[kd]", "[{fragment: kd, start: teacher}]")
    stage = "stages:\n  probe: {role: student, per_technique: true}\n"
    path = edit(project, "audits: [membership]\n", "audits: [membership]\n" + stage)
    with pytest.raises(UserError, match=r":11: stages.probe: .*needs no model.teacher"):
        read_study(path)
    edit(project, "per_technique: true", "per_technique: true, needs: {model.teacher: teacher}")
    assert read_study(path).techniques[0].start == "teacher"


LONGER = """\
extends: small.yaml
name: longer
techniques: [kd, kd_long]
stages:
  teacher: {overrides: {trainer.max_epochs: 9}}
"""


def test_a_study_is_laid_over_another(project: Path) -> None:
    stages = "stages:\n  teacher: {overrides: {model.optimizer.lr: 1.0}}\n"
    edit(project, "audits: [membership]\n", "audits: [membership]\n" + stages)
    small = read_study("configs/studies/small.yaml")
    text = LONGER.replace("[kd, kd_long]", "[{fragment: kd, label: warm}]")
    (project / "configs/studies/longer.yaml").write_text(text)
    longer = read_study("configs/studies/longer.yaml")
    assert [technique.label for technique in longer.techniques] == ["warm"]
    both = {"model.optimizer.lr": 1.0, "trainer.max_epochs": 9}
    assert longer.stages["teacher"].overrides == both
    assert (longer.name, longer.families, longer.title) == ("longer", small.families, small.title)


def test_cells_of_both_studies_are_the_same_cells(project: Path) -> None:
    (project / "configs/studies/again.yaml").write_text("extends: small.yaml\nname: again\n")
    small, again = (
        make_plan(read_study(f"configs/studies/{name}.yaml"), Path("runs/x"))
        for name in ("small", "again")
    )
    assert [cell.id for cell in small.cells] == [cell.id for cell in again.cells]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LONGER, r"longer.yaml:3: techniques.1.fragment: no such fragment"),
        (
            "extends: smal.yaml\n",
            r"longer.yaml:1: extends: no such study file beside it: smal",
        ),
        ("extends: ../studies/longer.yaml\n", r"no such study file beside it: \.\./studies/longer"),
        ("extends: longer.yaml\n", r"longer.yaml:1: extends: .*longer.yaml extends itself"),
        ("extends: 3\n", r"longer.yaml:1: extends: no such study file beside it: 3"),
        ("extends: broken.yaml\nname: longer\n", r"broken.yaml:2: seeds: 0 is there twice"),
    ],
)
def test_a_mistake_is_named_in_the_file_that_makes_it(
    project: Path, text: str, message: str
) -> None:
    studies = project / "configs/studies"
    (studies / "broken.yaml").write_text("extends: small.yaml\nseeds: [0, 0]\n")
    (studies / "longer.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_study("configs/studies/longer.yaml")


def test_a_missing_study_is_named(project: Path) -> None:
    with pytest.raises(UserError, match="nowhere.yaml: no such file"):
        read_study("configs/studies/nowhere.yaml")


@pytest.mark.parametrize("path", sorted(REAL.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_are_valid(path: Path) -> None:
    study = read_study(path)
    assert study.name == path.stem
    expected = {"teacher", "student"}
    if path.stem.startswith("exposure"):
        # Every shadow world is a counterfactual of each record, and of never-seen ones a control.
        expected |= {"shadow_teacher", "shadow"}
    else:
        expected |= {"control"}
        # The published split goes by position, so that its pool has no other side; teachers of
        # parts of the private side have none either.
        if path.stem not in ("gpt2-as-released", "guarded-text"):
            expected |= {"counterfactual_teacher", "counterfactual"}
    assert expected <= set(study.stages)
