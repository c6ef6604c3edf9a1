"""Measures what a language model gives away of its training records, from Python or a command.

>>> import kd_privacy  # costs next to nothing: what is named is loaded when it is used
>>> kd_privacy.statistics.auroc([0.9, 0.8], [0.1, 0.2]).value
1.0
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audits import statistics as statistics
    from audits.blocks import signals as signals
    from audits.membership import attacks as attacks
    from audits.memorization import metrics as metrics
    from common.errors import UserError as UserError
    from datamodules.records import InstructionRecord as InstructionRecord
    from kd_privacy.model_audit import audit as audit
    from kd_privacy.pair_audit import audit_pair as audit_pair
    from kd_privacy.pair_result import PairAudit as PairAudit
    from kd_privacy.result import Audit as Audit
    from kdmodules import losses as losses

_TOP_LEVEL = ("audits", "callbacks", "common", "datamodules", "kdmodules", "studies")


def _refuse_shadows() -> None:
    """Names a file or folder that Python takes for one of this project's packages.

    Raises:
        ImportError: Where one stands before the package on Python's path, such as a folder
            ``callbacks`` in the working directory.
    """
    installed = Path(__file__).resolve().parents[1]
    for name in _TOP_LEVEL:
        spec = find_spec(name)
        places = [] if spec is None else [*(spec.submodule_search_locations or [spec.origin or ""])]
        if not places or Path(places[0]).resolve() != installed / name:
            hiding = Path(places[0]).resolve() if places else "nothing"
            raise ImportError(
                f"{hiding} stands where kd-privacy's own package {name!r} is looked for: rename "
                "it, or start Python in another folder"
            )


_refuse_shadows()

# Only now: a user's folder may stand in the way of this package too.
from common.lazy_names import lazy_names  # noqa: E402

_MODULES = {
    "Audit": "kd_privacy.result",
    "InstructionRecord": "datamodules.records",
    "PairAudit": "kd_privacy.pair_result",
    "UserError": "common.errors",
    "attacks": "audits.membership.attacks",
    "audit": "kd_privacy.model_audit",
    "audit_pair": "kd_privacy.pair_audit",
    "losses": "kdmodules.losses",
    "metrics": "audits.memorization.metrics",
    "signals": "audits.blocks.signals",
    "statistics": "audits.statistics",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
