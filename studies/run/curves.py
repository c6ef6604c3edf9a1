"""A folder for TensorBoard, in which runs bear the names that the study gives them."""

import os
from pathlib import Path

from studies.plan.cells import Plan

FOLDER = "tensorboard"


def link_curves(plan: Plan, out: Path) -> Path:
    """Links every cell of a plan under its alias, in the place of an earlier plan's links.

    Cells lie in folders whose names hold a digest of what they are, which TensorBoard would show
    as the name of the run. A link leads to a cell that is yet to run, too, and to one that is
    resumed; a study folder can be moved with its links.

    Args:
        plan: The plan.
        out: The study's folder.

    Returns:
        The folder of the links, for ``tensorboard --logdir``.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        cell.alias: os.path.relpath(Path(cell.run_dir).resolve(), folder.resolve())
        for cell in plan.cells
    }
    for link in folder.iterdir():
        if link.is_symlink() and wanted.get(link.name) != os.readlink(link):
            link.unlink(missing_ok=True)
    for alias, target in wanted.items():
        if not (folder / alias).is_symlink():
            # Another shard may link at the same time.
            beside = folder / f".{alias}.{os.getpid()}"
            beside.symlink_to(target)
            beside.replace(folder / alias)
    return folder
