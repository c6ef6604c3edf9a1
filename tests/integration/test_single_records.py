"""A planted tail in small models: a few records of eight copies, all others hardly known."""

import json
from pathlib import Path

import pandas as pd
import pytest

from audits.membership.single_records import NAMED, POOL, SEPARATION, TAIL
from audits.results import read_table
from common.keys import key
from datamodules.synthetic import generate_records
from kd_privacy.study_cli import main
from studies.compare.single_records import BY_BOTH, BY_STUDENT, BY_TEACHER

pytestmark = pytest.mark.slow

N_RECORDS, PLANTED, COPIES = 970, 0.04, 8
AUDIT = """
trainer:
  callbacks+:
    - class_path: callbacks.MembershipAudit
      init_args:
        every_n_validations: 0
        worlds: 16
        blind: null
        attacks: [{class_path: audits.membership.attacks.Loss}]
"""
# Public records first, so that one epoch at a low rate leaves hardly more than the copies.
STUDY = """
name: tail
data: builtin
families: [{teacher: gpt2-mini, sizes: [gpt2-tiny]}]
techniques: [{fragment: kd, start: init}]
controls: []
replicates: [7]
shadows: 16
overrides:
  data.splits.fractions.private: 0.185
  data.splits.fractions.held_out: 0.185
  data.splits.fractions.public: 0.23
  data.splits.fractions.never: 0.31
  data.splits.fractions.development: 0.09
stages:
  base:
    role: base
    base: control
    model: teacher
    overrides:
      model.optimizer.lr: 1.5e-3
      data.batch_size: 8
      data.group_by_length: true
      trainer.max_epochs: 5
      trainer.check_val_every_n_epoch: 5
  init: {overrides: {trainer.max_epochs: 5, trainer.check_val_every_n_epoch: 5}}
  teacher:
    needs: &warm {model.network.source: base}
    fragments: [./audit.yaml]
    overrides: &weak
      model.optimizer.lr: 2.0e-4
      trainer.max_epochs: 1
      trainer.check_val_every_n_epoch: 1
  shadow_teacher: {needs: *warm, overrides: *weak}
  student:
    fragments: [./audit.yaml]
    overrides: &taught
      model.optimizer.lr: 1.0e-3
      trainer.max_epochs: 3
      trainer.check_val_every_n_epoch: 3
  shadow: {overrides: *taught}
"""


def corpus() -> tuple[list[dict[str, str]], set[str]]:
    """Rows of a source in which 4% of the records stand eight times, and the ids of these."""
    records = generate_records(N_RECORDS, seed=0)
    drawn = sorted(records, key=lambda one: key(0, "planted", one.content))
    planted = {one.content for one in drawn[: round(PLANTED * N_RECORDS)]}
    rows = [
        {
            **{"instruction": one.instruction, "context": one.context},
            **{"response": one.response, "category": one.task},
        }
        for one in records
        for _ in range(COPIES if one.content in planted else 1)
    ]
    return rows, planted


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """The folder of the finished study, and the ids of the planted records."""
    folder = tmp_path_factory.mktemp("tail")
    rows, found = corpus()
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "audit.yaml").write_text(AUDIT)
    (folder / "study.yaml").write_text(STUDY)
    source = f"--data.source={folder / 'records.jsonl'}"
    study = [str(folder / "study.yaml"), "--run_dir", str(folder / "out"), source]
    assert main(["run", *study, "--report"]) == 0
    return folder / "out", found


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_planted_records_are_named(planted: tuple[Path, set[str]], role: str) -> None:
    """At least 80% of them at a false-discovery rate of 5%, where the AUROC hardly shows a leak.

    When this was written the AUROC was 0.557 of the teacher and 0.539 of the student, and all 18
    planted records of the pool were named of either.
    """
    out, copied = planted
    results = read_table(out, "results").to_pandas().query("role == @role and task.isna()")
    auroc = results.query("metric == 'auroc' and name == 'loss' and population == 'private'")
    assert auroc["value"].item() < 0.57
    records = read_table(out, "memorization").to_pandas()
    own = (records["run"] == auroc["run"].item()) & records["name"].str.startswith(SEPARATION)
    each = records[own].pivot(index=["record", "population"], columns="name", values="value")
    each = each.reset_index()
    pool = each[each["population"] != "never"]
    known = pool["record"].isin(copied)
    assert 10 <= known.sum() <= 0.08 * len(pool)
    named = pool[f"{SEPARATION}_{NAMED}"] == 1.0
    assert named[known].mean() >= 0.8
    assert pool[SEPARATION][known].min() > pool[SEPARATION].median()
    # Never-seen records, of which some were planted too, are told by nothing.
    unseen = each[each["population"] == "never"]
    assert unseen["record"].isin(copied).sum() > 5
    assert abs(unseen[SEPARATION].mean()) < 0.2
    tail = results[results["metric"] == TAIL].set_index("population")
    assert tail.loc[POOL, "lower"] > tail.loc["never", "upper"]


def test_the_page_names_them(planted: tuple[Path, set[str]]) -> None:
    out, copied = planted
    exposed = pd.read_csv(out / "report" / "tables" / "exposed_records.csv")
    first = exposed.groupby("run").head(5)
    assert first["record"].isin(copied).mean() >= 0.6
    joined = pd.read_csv(out / "report" / "tables" / "single_records_inherited.csv")
    assert set(joined["measure"]) == {BY_BOTH, BY_STUDENT, BY_TEACHER}
