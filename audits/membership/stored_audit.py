"""An audit's measurements on disk, from which attacks run later without a model.

A folder of one checkpoint holds ``audit.json`` (whose audit, which populations are set against
each other) and a folder per population. It holds private texts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from audits.membership.evaluation import Opposition, Side
from audits.membership.plan import AuditPlan
from audits.membership.stored_view import load_view, save_view
from common.errors import UserError

_ABOUT = "audit.json"


@dataclass(frozen=True)
class StoredAudit:
    """What was measured of one checkpoint.

    Attributes:
        identity: Identity columns of the results table, the step included.
        sides: Populations by name.
        oppositions: Which are set against each other.
    """

    identity: Mapping[str, str | int | None]
    sides: Mapping[str, Side]
    oppositions: Sequence[Opposition]


def save_audit(folder: Path, audit: StoredAudit) -> None:
    """Writes an audit; ``audit.json`` comes last, so that a folder that holds it is whole.

    Args:
        folder: Of the checkpoint; created with mode 0700.
        audit: What was measured.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    about = folder / _ABOUT
    about.unlink(missing_ok=True)
    for name, side in audit.sides.items():
        save_view(side.view, side.clusters, folder / name)
    content = {
        "identity": dict(audit.identity),
        "empty": {name: side.empty for name, side in audit.sides.items()},
        "oppositions": [asdict(pair) for pair in audit.oppositions],
    }
    about.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def load_audit(folder: Path, plan: AuditPlan) -> StoredAudit:
    """Reads what a plan needs of a stored audit.

    Raises:
        UserError: The folder holds no whole audit, or not what the plan needs.
    """
    about = folder / _ABOUT
    if not about.is_file():
        raise UserError(
            f"{folder} holds no stored audit: name a folder private/statistics/step=<n> of a run "
            "whose callbacks.MembershipAudit had save_statistics"
        )
    content = json.loads(about.read_text(encoding="utf-8"))
    sides = {
        name: Side(*load_view(folder / name, plan), empty=empty)
        for name, empty in content["empty"].items()
    }
    pairs = [Opposition(**pair) for pair in content["oppositions"]]
    return StoredAudit(content["identity"], sides, pairs)
