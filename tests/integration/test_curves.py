"""What TensorBoard has of a student with all audits: few curves, in the order of reading."""

from pathlib import Path

import pytest

from kd_privacy.cli import main
from tests.integration.conftest import fragments


@pytest.mark.slow
def test_the_curves_of_a_student_are_few_and_in_groups(teacher: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    audits = ("membership", "memorization_last", "utility_quick", "blocks_quick")
    main(
        [
            *fragments("student", "techniques/kd", *(f"audits/{name}" for name in audits)),
            f"--model.teacher={teacher / 'export'}",
            f"--run_dir={tmp_path / 'run'}",
        ]
    )
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    tags = events.Tags()["scalars"]
    curves = [tag for tag in tags if not tag.startswith("~bounds/")]
    assert len(curves) <= 60
    groups = ["1_membership", "2_memorization", "3_blocks", "4_utility", "5_training"]
    assert sorted({tag.split("/")[0] for tag in curves}) == groups
    assert max(map(len, curves)) < 90
    (stored,) = events.Tensors("custom_scalars__config__")
    layout = Layout.FromString(stored.tensor_proto.string_val[0])
    drawn = {
        tag
        for category in layout.category
        for chart in category.chart
        for band in chart.margin.series
        for tag in (band.value, band.lower, band.upper)
    }
    assert {tag for tag in tags if tag.startswith("~bounds/")} <= drawn
    assert "1_membership/private/loss/auroc" in drawn & set(tags)
