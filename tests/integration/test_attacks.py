"""Every attack as part of a whole command, and again from what that audit kept, without a model."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from audits.membership import attacks
from kd_privacy.cli import main
from tests.integration.conftest import fragments, table

pytestmark = pytest.mark.slow

ROLES = [
    "--data.splits.roles.audit=0.5",
    "--data.splits.roles.shots=0.3",
    "--data.splits.roles.population=0.1",
    "--data.splits.roles.calibration=0.1",
]
ALL = """
trainer:
  callbacks+:
    - class_path: callbacks.MembershipAudit
      init_args:
        every_n_validations: 0
        save_statistics: true
        populations: [private, public]
        attacks:
          - class_path: audits.membership.attacks.Loss
          - class_path: audits.membership.attacks.Zlib
          - class_path: audits.membership.attacks.MinK
          - class_path: audits.membership.attacks.MinKPlusPlus
          - {class_path: audits.membership.attacks.DCPDD, init_args: {max_blocks: 20}}
          - class_path: audits.membership.attacks.Reference
          - class_path: audits.membership.attacks.Lowercase
          - {class_path: audits.membership.attacks.Neighbour, init_args: {copies: 2}}
          - {class_path: audits.membership.attacks.PAC, init_args: {copies: 2}}
          - {class_path: audits.membership.attacks.Recall, init_args: {shots: 2}}
          - {class_path: audits.membership.attacks.ConRecall, init_args: {shots: 2}}
          - class_path: audits.membership.attacks.GradNorm
          - {class_path: audits.membership.attacks.MoPe, init_args: {draws: 3}}
          - {class_path: audits.membership.attacks.SaMIA, init_args: {samples: 2}}
          - {class_path: audits.membership.attacks.LabelOnly, init_args: {samples: 1}}
          - {class_path: audits.membership.attacks.TopKLoss, init_args: {k: 5}}
          - class_path: audits.membership.attacks.EZ
          - class_path: audits.membership.attacks.WBC
          - class_path: audits.membership.attacks.InfoRMIA
          - class_path: audits.membership.attacks.RMIA
            init_args: {references: [shadow0, shadow1]}
          - class_path: audits.membership.attacks.LiRA
            init_args: {references: [shadow0, shadow1]}
          - class_path: audits.membership.attacks.ReleasedMinK
          - class_path: audits.membership.attacks.ReleasedMinKPlusPlus
          - class_path: audits.membership.attacks.ReleasedZlib
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A toy teacher that was audited by every attack, and the fragment that named them."""
    folder = tmp_path_factory.mktemp("attacks")
    fragment = folder / "all.yaml"
    fragment.write_text(ALL, encoding="utf-8")
    sources = {}
    for world in (0, 1):
        run_dir = folder / f"shadow{world}"
        options = [f"--data.splits.shadow={world}", f"--seed_everything={world + 1}", *ROLES]
        main([*fragments("teacher"), *options, "--trainer.max_epochs=1", f"--run_dir={run_dir}"])
        sources[f"shadow{world}"] = str(run_dir / "export")
    sources["base"] = sources["shadow0"]
    references = [f"--references.models.{name}={path}" for name, path in sources.items()]
    run_dir = folder / "teacher"
    main([*fragments("teacher"), *ROLES, "-c", str(fragment), *references, f"--run_dir={run_dir}"])
    return run_dir, fragment


def test_every_attack_has_rows_for_both_populations(audited: tuple[Path, Path]) -> None:
    results = table(audited[0], "results")
    names = set(attacks.__all__) - {"Attack", "describe"}
    known = {getattr(attacks, name).name for name in names}
    last = results.query("step == step.max() and metric == 'auroc' and task.isna()")
    for population in ("private", "public"):
        rows = last[last["population"] == population].set_index("name")
        assert known <= set(rows.index)
        assert rows.loc[sorted(known), "value"].between(0, 1).all()
    scores = table(audited[0], "scores")
    assert not scores["score"].isna().any()
    assert set(scores["name"]) == known
    assert {"reliability", "shots", "clipped_share"} <= set(results["metric"])
    # recall reads shots; no attack reads what the other uses would keep from the audit.
    placed = pd.read_parquet(audited[0] / "private" / "manifest.parquet")
    pool = placed[placed["split"].isin(["private", "held_out"])]
    judged = scores[scores["population"].isin(["private", "held_out"])]
    assert set(judged["record"]) == set(pool[pool["role"] != "shots"]["id"])
    assert set(pool["role"]) == {"audit", "shots", "population", "calibration"}


def test_stored_audits_give_the_same_rows_without_a_model(
    audited: tuple[Path, Path], tmp_path: Path
) -> None:
    """All but the bounds on epsilon: an attack that comes after others was not named beforehand."""
    run_dir, fragment = audited
    folder = max((run_dir / "private" / "statistics").iterdir(), key=lambda p: int(p.name[5:]))
    step = int(folder.name[5:])
    out = tmp_path / "again"
    main(["attack", f"--statistics={folder}", f"--out={out}", "-c", str(fragment)])
    for name, keys in (
        ("results", ["name", "params", "metric", "population", "task", "n_members"]),
        ("scores", ["name", "params", "population", "record"]),
    ):
        before, after = (
            table(path, name).query(f"step == {step}").sort_values(keys, ignore_index=True)
            for path in (run_dir, out)
        )
        if name == "results":
            bounds = before["metric"].isin(["epsilon_lower", "mu_lower"])
            assert set(before["metric"][bounds]) == {"epsilon_lower", "mu_lower"}
            before = before[(before["audit"] == "membership") & ~bounds]
        pd.testing.assert_frame_equal(
            before.reset_index(drop=True), after, check_exact=False, rtol=0, atol=1e-12
        )
    about = json.loads((folder / "audit.json").read_text())
    assert about["identity"]["role"] == "teacher"


def test_a_student_is_asked_for_answers_beside_a_reference(
    audited: tuple[Path, Path], tmp_path: Path
) -> None:
    """As the fragment has it: greedy and four sampled answers of both, and whole distributions."""
    run_dir, shadow = tmp_path / "student", audited[0].parent / "shadow0" / "export"
    main(
        [
            *fragments("student", "techniques/kd", "audits/membership_answers"),
            *(f"--model.teacher={audited[0] / 'export'}", f"--references.models.base={shadow}"),
            f"--run_dir={run_dir}",
        ]
    )
    results, scores = table(run_dir, "results"), table(run_dir, "scores")
    own = scores[scores["name"] == "label_only"]
    assert own["score"].between(-1, 1).all()
    assert own.groupby("population")["score"].nunique().min() > 10
    rows = results[results["task"].isna()].set_index(["name", "metric"]).sort_index()
    for name in ("loss", "label_only", "informia"):
        found = rows.loc[[(name, "auroc")]].iloc[0]
        assert found["lower"] < found["value"] < found["upper"]
        assert found["n_members"] + found["n_nonmembers"] == (scores["name"] == name).sum()
    assert rows.loc[[("label_only", "reliability")], "value"].between(-1, 1).all()
    params = json.loads(rows.loc[[("label_only", "auroc")], "params"].iloc[0])
    assert params == {"reference": "base", "samples": 4, "temperature": 1.0}


def test_what_was_not_stored_is_named(audited: tuple[Path, Path], tmp_path: Path, refused) -> None:
    folder = next((audited[0] / "private" / "statistics").iterdir())
    more = tmp_path / "more.yaml"
    more.write_text(ALL.replace("copies: 2", "copies: 3"), encoding="utf-8")
    line = refused(["attack", f"--statistics={folder}", f"--out={tmp_path}", "-c", str(more)])
    assert "neighbour" in line
    assert "does not hold" in line
    line = refused(
        ["attack", f"--statistics={tmp_path}", f"--out={tmp_path}", "-c", str(audited[1])]
    )
    assert "save_statistics" in line
    line = refused(["attack", f"--statistics={folder}", f"--out={tmp_path}"])
    assert "configs/audits/membership.yaml" in line


def test_worlds_bound_what_text_tells_of_coins(
    audited: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[[list[str]], str],
) -> None:
    """Two shadow worlds are one throw of coins: too few for an accuracy, enough for nats."""
    run_dir = audited[0]
    told: list[str] = []
    monkeypatch.setattr("callbacks.text_bound.rank_zero_info", told.append)

    command = [
        *("validate", "-c", str(run_dir / "config.yaml"), "--trainer.callbacks=[]"),
        *("-c", "configs/audits/text_bound.yaml", "--trainer.callbacks.init_args.worlds=2"),
        *("--trainer.callbacks.init_args.max_new_tokens=4", f"--run_dir={tmp_path}"),
        *("--trainer.callbacks.init_args.prompts=3",),
        f"--ckpt_path={run_dir / 'checkpoints' / 'last.ckpt'}",
    ]
    main(command)
    assert "9 responses of up to 4 tokens" in told[0]
    assert "27 passes" in told[0]
    rows = table(tmp_path, "results").query("audit == 'text_bound'").set_index("metric")
    assert rows["value"].notna().to_dict() == {
        **dict.fromkeys(("nats_per_token", "nats_per_unit", "tokens_read", "query_budget"), True),
        "accuracy_upper": False,
    }
    assert 0 < rows["value"]["nats_per_token"]
    placed = pd.read_parquet(run_dir / "private" / "manifest.parquet")
    pool = placed[placed["split"].isin(["private", "held_out"])]
    assert rows["n_members"].iloc[0] + rows["n_nonmembers"].iloc[0] == pool["cluster"].nunique()
    public = (placed["split"] == "public").sum()
    assert public <= rows["value"]["tokens_read"] <= 4 * public
    assert json.loads(rows["params"].iloc[0])["certificate"] == "average"
    shadow = [*command, "--data.splits.shadow=1"]
    assert "'shadow0' has the coins of the audited model" in refused(shadow)
