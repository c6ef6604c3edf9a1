"""Teacher, student and audits as whole commands: what they write, and that bits repeat."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from kd_privacy.cli import main
from kdmodules.models.network import load_model
from tests.audit_schema import valid_audit
from tests.integration.conftest import (
    AUDITS,
    ROOT,
    fragments,
    losses,
    same_bits,
    table,
    weights,
)

STUDENT = ["-c", "configs/techniques/kd.yaml"]


def student(teacher: Path, run_dir: Path, *more: str) -> Path:
    main(
        [
            *fragments("student"),
            *STUDENT,
            f"--model.teacher={teacher / 'export'}",
            *more,
            f"--run_dir={run_dir}",
        ]
    )
    return run_dir


@pytest.fixture(scope="module")
def taught(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a student of the toy teacher, with a membership audit."""
    run_dir = tmp_path_factory.mktemp("student") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return student(teacher, run_dir, *AUDITS)


def test_a_teacher_run_writes_what_it_promises(teacher: Path) -> None:
    rows = table(teacher, "results")
    whole = rows[rows.task.isna() & (rows.metric == "auroc")]
    assert sorted(whole.name.unique()) == ["blind", "loss", "min_k", "min_k_plus_plus", "zlib"]
    blind = rows[(rows.name == "blind") & (rows.metric == "auroc")]
    assert blind.value.nunique() == 1
    assert blind.p_value.between(0.005, 1).all()
    bounds = rows[rows.metric == "epsilon_lower"]
    assert (bounds.lower >= 0).all()
    assert len(bounds) == 4 * 2  # at two deltas, and at the last checkpoint alone
    assert (bounds.step == rows.step.max()).all()
    params = bounds.params.map(json.loads)
    assert {(one["unit"], one["looks"]) for one in params} == {("cluster", 4)}
    coins = rows[rows.metric == "dealt_by_coins"]
    assert coins[["population", "value"]].to_numpy().tolist() == [["private", 1.0]] * 2
    assert len(rows[rows.metric == "tpr_certified_at_fpr_0.01"]) == 4 * 2
    assert whole.groupby("name").step.nunique().eq(2).all()
    together = rows[rows.metric == "max_t"]
    assert list(together.name) == ["any_attack"] * 2
    assert together.p_value.between(0.001, 1).all()
    assert together.value.notna().all()
    assert (whole.role == "teacher").all()
    assert (whole.lower < whole.value).all()
    assert (whole.value < whole.upper).all()
    assert rows.task.nunique() == 7
    scores = table(teacher, "scores")
    assert not scores.duplicated(["step", "record", "name"]).any()
    sides = scores[scores.name == "loss"].groupby("population").record.nunique()
    assert sides["private"] == whole.n_members.iloc[0]
    assert sides["held_out"] == whole.n_nonmembers.iloc[0]
    placed = pd.read_parquet(teacher / "private" / "manifest.parquet").drop_duplicates("content")
    in_pool = placed[placed.split.isin(["private", "held_out"])]
    assert in_pool.groupby("split").id.count().to_dict() == sides.to_dict()  # whatever the role
    assert in_pool.role.nunique() > 1
    assert (teacher / "config.yaml").read_text(encoding="utf-8").startswith("seed_everything: 0")
    assert losses(teacher, "membership/private/loss/auroc") == pytest.approx(
        whole[whole.name == "loss"].sort_values("step").value.tolist(), abs=1e-6
    )


def test_a_run_s_answer_is_the_same_for_machines_in_its_card_and_in_its_table(
    teacher: Path, taught: Path
) -> None:
    hashes = set()
    for run, trained_on in ((teacher, "private"), (taught, "public")):
        answer = valid_audit(run / "audit.json")
        assert (run / "export" / "audit.json").read_bytes() == (run / "audit.json").read_bytes()
        rows = table(run, "results")
        last = rows[(rows.step == rows.step.max()) & rows.task.isna() & (rows.name == "loss")]
        (auroc,) = last[last.metric == "auroc"].value
        (model,) = answer["models"]
        assert model["membership"]["figure"]["value"] == auroc
        (tested,) = answer["tested"]
        assert (tested["role"], tested["dealt_by_coins"]) == (rows.role.iloc[0], True)
        assert tested["model"]["weights"]["of"] == "parameters"
        hashes.add(tested["model"]["weights"]["hash"])
        sides = {one["side"]: one["records"] for one in tested["records"]}
        assert sides["members"] == last.n_members.iloc[0]
        assert sides["nonmembers"] == last.n_nonmembers.iloc[0]
        card = ModelCard.load(run / "export" / "README.md")
        assert f"Fitted on the *{trained_on}* split" in card.text
        assert answer["answer"] in card.text.split("## ")[0]
        results = {one.metric_type: one for one in card.data.eval_results}
        assert results["auroc"].metric_value == auroc
        assert results["auroc"].dataset_name == "private records"
        assert results["auroc"].metric_args["n_members"] == sides["members"]
        assert card.data["pipeline_tag"] == "text-generation"
    assert len(hashes) == 2


def test_tensorboard_s_table_of_runs_points_at_curves_of_the_run(teacher: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(teacher))
    events.Reload()
    stored = events.summary_metadata
    contents = {
        tag: HParamsPluginData.FromString(one.plugin_data.content)
        for tag, one in stored.items()
        if one.plugin_data.plugin_name == metadata.PLUGIN_NAME
    }
    metrics = contents[metadata.EXPERIMENT_TAG].experiment.metric_infos
    names = [one.name.tag for one in metrics]
    assert "1_membership/private/loss/auroc" in names
    assert "4_utility/rouge_l_f1" in names
    columns = [one.display_name for one in metrics]
    assert columns == ["AUROC (loss)", "Token accuracy (private)", "ROUGE-L", "Perplexity"]
    differing = [
        one.name for one in contents[metadata.EXPERIMENT_TAG].experiment.hparam_infos if one.differs
    ]
    assert sorted(differing) == ["role", "seed", "size", "technique"]
    row = contents[metadata.SESSION_START_INFO_TAG].session_start_info.hparams
    assert row["role"].string_value == "teacher"
    assert row["lr"].number_value > 0
    # The table reads the run's own curves: no point and no folder is written for it.
    assert len(losses(teacher, "membership/private/loss/auroc")) == 2
    assert len(list(teacher.rglob("events.out.tfevents.*"))) == 1


def test_the_export_is_the_trained_network(teacher: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(teacher / "export")
    tokenizer = AutoTokenizer.from_pretrained(teacher / "export")
    assert len(tokenizer) == model.config.vocab_size == 512
    from_checkpoint = load_model(str(teacher / "checkpoints" / "last.ckpt"))
    assert same_bits(dict(model.state_dict()), dict(from_checkpoint.state_dict()))
    card = (teacher / "export" / "README.md").read_text(encoding="utf-8")
    assert "private against non-members" in card
    # The toy corpus has too few records for its blind baseline, which caps nothing here.
    assert "; coins dealt the sides | leaks: AUROC above chance" in card
    assert "undecided: " not in card
    assert "| loss | private | " in card.partition("Epsilon at least")[2]


def test_a_student_approaches_its_teacher(taught: Path) -> None:
    divergence = losses(taught, "val/teacher_kl")
    assert len(divergence) == 2
    assert divergence[1] < divergence[0]
    saved = weights(taught)
    assert all(name.startswith("lm.model.") for name in saved)
    config = json.loads((taught / "export" / "config.json").read_text(encoding="utf-8"))
    total = sum(
        p.numel() for p in AutoModelForCausalLM.from_pretrained(taught / "export").parameters()
    )
    assert config["n_layer"] == 2
    assert total < 2 * sum(value.numel() for value in saved.values())


def test_the_same_seed_gives_the_same_bits(teacher: Path, taught: Path, tmp_path: Path) -> None:
    again = student(teacher, tmp_path / "again", *AUDITS)
    other = student(teacher, tmp_path / "other", "--trainer.max_steps=1", "--seed_everything=1")
    assert losses(taught) == losses(again)
    assert same_bits(weights(taught), weights(again))
    pd.testing.assert_frame_equal(table(taught, "scores"), table(again, "scores"))
    assert losses(other)[0] not in losses(taught)


def test_accumulation_is_one_big_batch(tmp_path: Path) -> None:
    runs = {}
    for steps in (1, 4):
        run_dir = tmp_path / str(steps)
        main(
            [
                *fragments("control"),
                f"--trainer.accumulate_grad_batches={steps}",
                f"--run_dir={run_dir}",
            ]
        )
        runs[steps] = run_dir
    assert losses(runs[1]) == pytest.approx(losses(runs[4]), abs=1e-5)
    one, four = weights(runs[1]), weights(runs[4])
    for name, value in one.items():
        torch.testing.assert_close(value, four[name], atol=1e-4, rtol=1e-3)


def test_a_checkpoint_validates_to_the_rows_of_its_fit(teacher: Path, tmp_path: Path) -> None:
    names = ["base/teacher", "data/builtin", "families/gpt2-tiny", "audits/membership"]
    arguments = fragments("teacher", "audits/membership")[2 * len(names) + 1 :]
    main(
        [
            "validate",
            *[part for name in names for part in ("-c", f"configs/{name}.yaml")],
            *arguments,
            f"--ckpt_path={teacher / 'checkpoints' / 'last.ckpt'}",
            f"--run_dir={tmp_path / 'again'}",
        ]
    )
    fitted = table(teacher, "scores")
    fitted = fitted[fitted.step == fitted.step.max()].reset_index(drop=True)
    pd.testing.assert_frame_equal(fitted, table(tmp_path / "again", "scores"))
