"""A student carries its teacher's guarantee: in its folder, its export, its rows, card, answer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from audits.answer.machine import FILE_NAME
from audits.membership.attacks import Loss
from callbacks import MembershipAudit
from callbacks.audit import RunTables
from callbacks.extra_rows import GuaranteeRecord
from callbacks.run import RunIdentity
from callbacks.schedule import FinalValidation
from callbacks.weights import ModelExport
from common.fragments import CONFIG_NAME
from common.guarantee import Certificate, Guarantee, read, write
from kdmodules.losses import Reduction
from kdmodules.responses import DatasetResponses, TeacherResponses
from kdmodules.sampling.sampler import SamplingSettings
from tests.audit_schema import valid_audit
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher

DP = Guarantee(
    certificate=Certificate.dp,
    defence="dp_teacher",
    epsilon=8.0,
    delta=5e-4,
    mu=2.0,
    does_not_cover=("this page",),
)


def rows_of_student(
    folder: Path,
    told: Guarantee | None,
    *,
    text: TeacherResponses | None = None,
    defence: str | None = None,
    start: Callable[[str], str] | None = None,
) -> pd.DataFrame:
    data = make_data(folder)
    teacher = write_teacher(folder, data)
    if told is not None:
        write(Path(teacher), told)
    student = make_student(teacher, text or DatasetResponses())
    if text:
        student.reduction = Reduction(kd_ratio=0.0)
    if start is not None:
        student.network.source = start(teacher)
    audit = MembershipAudit([Loss()], blind=None, every_n_validations=0)
    # The identity comes last, as on the command line.
    callbacks = [
        *(FinalValidation(), audit, GuaranteeRecord(), RunTables(), ModelExport()),
        RunIdentity("run", "student", defence=defence),
    ]
    run = folder / "run"
    make_trainer(run, max_steps=1, callbacks=callbacks).fit(student, data)
    return pd.read_parquet(run / "results.parquet")


def test_a_student_carries_what_its_teacher_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_student(tmp_path, DP, defence="teacher_output")
    run = tmp_path / "run"
    assert read(run) == read(run / "export") == DP
    own = rows[rows["audit"] == "guarantee"]
    assert dict(zip(own["metric"], own["value"], strict=True)) == {"epsilon": 8.0, "mu": 2.0}
    bounded = rows[rows["metric"] == "auroc_upper"]
    assert list(bounded["audit"]) == ["membership"]
    assert 0.5 < bounded["value"].item() < 0.93
    assert f"**Guarantee:** {DP.short}." in (run / "export/README.md").read_text()
    assert f"guarantee     {DP.line}" in capsys.readouterr().out
    told = valid_audit(run / FILE_NAME)
    (model,) = told["models"]
    assert (model["guarantee"]["holds"], model["guarantee"]["line"]) == (True, DP.line)
    assert {"auroc_upper", "unit_auroc", "epsilon"} <= {one["metric"] for one in told["figures"]}


def test_what_voids_it_leaves_no_value_and_no_ceiling(tmp_path: Path) -> None:
    voided = DP.voided("dp.seed is given")
    rows = rows_of_student(tmp_path, voided)
    own = rows[rows["audit"] == "guarantee"]
    assert list(own["metric"]) == ["epsilon", "mu", "auroc_upper"]
    assert own["value"].isna().all()
    assert "auroc_upper" not in set(rows[rows["audit"] == "membership"]["metric"])
    card = (tmp_path / "run" / "export" / "README.md").read_text()
    assert "**Guarantee:** no guarantee (dp.seed is given): epsilon 8 at delta 0.0005" in card


def test_a_start_from_other_weights_than_the_teachers_voids_it(tmp_path: Path) -> None:
    rows_of_student(tmp_path / "same", DP, start=lambda teacher: teacher)
    assert read(tmp_path / "same" / "run") == DP

    def copied(teacher: str) -> str:
        return str(shutil.copytree(teacher, tmp_path / "elsewhere"))

    rows_of_student(tmp_path / "other", DP, start=copied)
    found = read(tmp_path / "other" / "run")
    assert found is not None
    assert found.line.startswith("no guarantee (nothing tells that the student's start, ")


def test_public_records_that_may_be_the_teachers_private_ones_void_it(tmp_path: Path) -> None:
    def under(seed: int, folder: Path) -> None:
        splits = {"source": "builtin", "splits": {"seed": seed}}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(yaml.safe_dump({"data": {"init_args": splits}}))

    for seed in (1, 2):
        under(1, tmp_path / str(seed) / "teacher-5")
        under(seed, tmp_path / str(seed) / "run")
        rows_of_student(tmp_path / str(seed), DP)
    assert read(tmp_path / "1" / "run") == DP
    found = read(tmp_path / "2" / "run")
    assert found is not None
    assert "was trained under another split" in found.line
    assert not found.holds


def sampled(temperature: float = 1.0, *, secret: bool = False) -> TeacherResponses:
    settings = SamplingSettings(max_new_tokens=2, temperature=temperature)
    return TeacherResponses(settings, secret_draws=secret)


@pytest.mark.parametrize(
    ("text", "channel"),
    [
        (None, "log-probabilities"),
        (sampled(), "text"),
        (sampled(secret=True), "text of secret draws"),
        (sampled(0.7, secret=True), "text"),
    ],
    ids=["none", "by_a_seed", "secret", "secret_but_cooled"],
)
def test_without_one_a_row_says_that_nothing_bounds(
    tmp_path: Path, text: TeacherResponses | None, channel: str
) -> None:
    rows = rows_of_student(tmp_path, None, text=text)
    (row,) = rows[rows["audit"] == "guarantee"].to_dict("records")
    assert (row["metric"], pd.isna(row["value"])) == ("auroc_upper", True)
    params = json.loads(row["params"])
    assert params == {"certificate": "none", "channel": channel, "scope": "no bound"}
    assert read(tmp_path / "run") is None
