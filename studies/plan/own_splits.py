"""A replicate has a split of its own: what trains on one split again is a repeat, and is no other.

Teachers and students of fresh seeds on one split share its luck: which records are private, and how
alike the two sides are by chance. Counted as replicates they would make every interval of a claim
too short.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from common.errors import UserError
from common.fragments import CONFIG_NAME
from common.own_files import read_yaml
from studies.plan.cells import Plan
from studies.plan.settings import Settings
from studies.plan.stages import PROTOCOL_OPTION, SPLIT_SEED_OPTION

_BY_POSITION = "as_released"


def require_own_splits(replicates: Sequence[int], replicate: int, settings: Settings) -> None:
    """Refuses several replicates whose cells are told to train on one split.

    Args:
        replicates: The study's.
        replicate: A cell's.
        settings: The cell's.

    Raises:
        UserError: Says which option does it and what to write instead.
    """
    if len(replicates) < 2:
        return
    seed = settings.get(SPLIT_SEED_OPTION)
    reason = "" if str(seed) == str(replicate) else f"{SPLIT_SEED_OPTION} is fixed at {seed}"
    if settings.get(PROTOCOL_OPTION) == _BY_POSITION:
        reason = f"the protocol {_BY_POSITION} splits by position"
    if reason:
        raise UserError(
            f"replicates: {list(replicates)} would share one split ({reason}), so they are repeats "
            f"and no replicates; write `replicates: [{replicates[0]}]` and "
            f"`repeats: {len(replicates)}`"
        )


def require_replicates(plan: Plan) -> None:
    """Refuses to judge claims where two replicates were trained on the same split.

    Args:
        plan: The study's, with the configurations of its finished runs.

    Raises:
        UserError: Names the replicates.
    """
    found: dict[str, int] = {}
    seen: set[int] = set()
    for cell in plan.cells:
        path = Path(cell.run_dir) / CONFIG_NAME
        if cell.replicate in seen or not path.is_file():
            continue
        seen.add(cell.replicate)
        split = _split(read_yaml(path, f"delete {path.parent}, and the cell runs anew"))
        if split is not None and split in found:
            raise UserError(
                f"replicates {found[split]} and {cell.replicate} were trained on the same split: "
                "repeats of one split are no replicates, and no claim counts them as such"
            )
        if split is not None:
            found[split] = cell.replicate


def _split(config: dict[str, object]) -> str | None:
    """Returns what decides a run's split, as text; None where the run has none of these."""
    splits = Settings(config).section("data.splits")
    apart = ("seed", "shadow") if splits.get("protocol") == _BY_POSITION else ("shadow",)
    decides = {name: value for name, value in splits.items() if name not in apart}
    return yaml.safe_dump(decides, sort_keys=True) if splits else None
