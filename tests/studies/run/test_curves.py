"""The folder that TensorBoard is pointed at: a link for every cell, under its alias."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from studies.plan.cells import Plan
from studies.run.curves import link_curves


def test_links_follow_the_plan_and_survive_a_move(
    plan_of: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = plan_of().moved_to(tmp_path / "out")
    folder = link_curves(plan, tmp_path / "out")
    assert folder == tmp_path / "out" / "tensorboard"
    for cell in plan.cells:
        Path(cell.run_dir).mkdir(parents=True)  # a cell that runs after it was linked
        (Path(cell.run_dir) / "events").write_text(cell.id)
    first, *rest = plan.cells
    other = replace(first, run_dir=f"{first.run_dir}0")  # the same alias with other options
    link_curves(replace(plan, cells=(other, *rest[:-1])), tmp_path / "out")
    assert set(os.listdir(folder)) == {cell.alias for cell in plan.cells[:-1]}
    assert (folder / first.alias).resolve() == Path(other.run_dir).resolve()
    (tmp_path / "out").rename(tmp_path / "kept")
    kept = tmp_path / "kept" / "tensorboard"
    assert (kept / rest[0].alias / "events").read_text() == rest[0].id
