"""A run's row in TensorBoard's table of runs: columns by name, the telling ones first."""

from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from callbacks.saved_config import COMPARED_CURVES, table_of_runs


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
