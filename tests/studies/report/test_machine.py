"""A study for machines: what the schema admits, and a gate that every student has to pass."""

import json
from pathlib import Path

from audits.answer.gate import conditions_of
from studies.report.answer import study_answer
from studies.report.machine import study_failures, study_json
from studies.report.study_data import StudyData
from tests.audit_schema import valid_audit
from tests.studies.planted_report import cell, row, study


def planted(*roles: str) -> StudyData:
    """Two replicates of each model; what the students leak falls with the replicate."""
    cells = [cell(role, replicate=number) for role in roles for number in (1, 2)]
    values = {"teacher": (0.9, 0.92), "student": (0.8, 0.7), "control": (0.5, 0.5)}
    rows = [row(one, "auroc", values[one.role][one.replicate - 1]) for one in cells]
    rows += [row(one, "tpr_at_fpr_0.01", float("nan")) for one in cells]
    return study(cells, rows)


def told(data: StudyData, *lines: str) -> list[str]:
    return study_failures(data, conditions_of(lines))


def test_a_study_has_every_run_and_says_the_mean_of_replicates(tmp_path: Path) -> None:
    data = planted("teacher", "student", "control")
    path = tmp_path / "audit.json"
    path.write_text(study_json(data, study_answer(data)), encoding="utf-8")
    content = valid_audit(path)
    assert [one["role"] for one in content["models"]] == ["teacher", "student", "control"]
    means = [one["membership"]["figure"]["value"] for one in content["models"]]
    assert means == [0.91, 0.75, 0.5]
    assert content["models"][1]["membership"]["figure"]["n_replicates"] == 2
    found = {one["run"]: one["value"] for one in content["figures"] if one["metric"] == "auroc"}
    assert found["student-gpt2-base-r1"] == 0.8
    assert len(found) == 6
    missing = [one for one in content["figures"] if one["metric"] == "tpr_at_fpr_0.01"]
    assert {(one["value"], one["caution"]) for one in missing} == {
        (None, "not measurable with these records")
    }
    assert "NaN" not in json.dumps(content)


def test_a_line_without_a_model_is_about_every_replicate_of_every_student() -> None:
    data = planted("teacher", "student", "control")
    line = "membership/loss.auroc.value > 0.75"
    assert told(data, line) == [f"{line}: of student-gpt2-base it is 0.8 (300 + 310 records)"]
    assert told(data, "membership/loss.auroc.value > 0.8") == []
    assert len(told(data, "teacher-gpt2-base:membership.auroc.value > 0.8")) == 2
    assert len(told(data, "student-gpt2-base-r2:membership.auroc.value > 0.6")) == 1
    absent = told(data, "membership.tpr_at_fpr_0.01.lower > 0.05")
    assert len(absent) == 2
    assert all("it is not measurable (300 + 310 records)" in one for one in absent)


def test_of_teachers_alone_a_line_is_about_them() -> None:
    assert len(told(planted("teacher"), "membership.auroc.value > 0.91")) == 1
