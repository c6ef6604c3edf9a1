"""A run's configuration: its row in TensorBoard's table, and what a resumed one may change."""

from pathlib import Path

import pytest
import yaml
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from callbacks.saved_config import COMPARED_CURVES, report_disagreement, table_of_runs
from common.errors import UserError


def test_the_table_opens_with_what_tells_runs_apart_under_readable_names() -> None:
    options = {
        "family": "gpt2",
        "lr": 0.1,
        "objective": "kdmodules.losses.ForwardKL",
        "responses": "",
    }
    options |= {"role": "student", "seed": 7, "size": "tiny", "technique": "kd"}
    table, begin, _ = (
        HParamsPluginData.FromString(one.value[0].metadata.plugin_data.content)
        for one in table_of_runs(options, COMPARED_CURVES)
    )
    infos = table.experiment.hparam_infos
    # TensorBoard shows the first five of this order (`backend_context.py`).
    shown = [one.name for one in sorted(infos, key=lambda one: (not one.differs, one.name))][:5]
    assert shown == ["role", "seed", "size", "technique", "family"]
    metrics = {one.name.tag: one.display_name for one in table.experiment.metric_infos}
    assert metrics == COMPARED_CURVES
    row = begin.session_start_info.hparams
    assert row["objective"].string_value == "ForwardKL"
    assert (row["technique"].string_value, row["seed"].number_value) == ("kd", 7)
    assert row["lr"].number_value == 0.1


def test_a_privately_trained_run_goes_on_as_it_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def config(private: bool, dropout: float = 0.0, audits: int = 1) -> dict[str, object]:
        dp = {"epsilon": 8.0} if private else None
        network = {"dropout": dropout}
        return {
            "model": {"class_path": "T", "init_args": {"dp": dp, "network": network}},
            "audits": {"every_n_validations": audits},
        }

    for private in (True, False):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config(private)), encoding="utf-8")
        report_disagreement(tmp_path, config(private, audits=2))
        assert "audits.every_n_validations was 1 when" in capsys.readouterr().err
    report_disagreement(tmp_path, config(private=False, dropout=0.1))
    assert "model.init_args.network.dropout was 0.0 when" in capsys.readouterr().err
    # Noise that is left out or added is a change like any other.
    for other in (config(private=True), config(private=True, dropout=0.1)):
        with pytest.raises(UserError, match="goes on with the noise that it began with"):
            report_disagreement(tmp_path, other)
