"""Membership attacks, one file each."""

from audits.membership.attacks.base import Attack
from audits.membership.attacks.con_recall import ConRecall
from audits.membership.attacks.dc_pdd import DCPDD
from audits.membership.attacks.ez import EZ
from audits.membership.attacks.grad_norm import GradNorm
from audits.membership.attacks.informia import InfoRMIA
from audits.membership.attacks.label_only import LabelOnly
from audits.membership.attacks.lira import LiRA
from audits.membership.attacks.loss import Loss
from audits.membership.attacks.lowercase import Lowercase
from audits.membership.attacks.min_k import (
    MinK,
    MinKPlusPlus,
    ReleasedMinK,
    ReleasedMinKPlusPlus,
)
from audits.membership.attacks.mope import MoPe
from audits.membership.attacks.neighbour import Neighbour
from audits.membership.attacks.pac import PAC
from audits.membership.attacks.recall import Recall
from audits.membership.attacks.reference import Reference
from audits.membership.attacks.rmia import RMIA
from audits.membership.attacks.samia import SaMIA
from audits.membership.attacks.top_k_loss import TopKLoss
from audits.membership.attacks.wbc import WBC
from audits.membership.attacks.zlib import ReleasedZlib, Zlib

__all__ = [
    "Attack",
    "ConRecall",
    "DCPDD",
    "EZ",
    "GradNorm",
    "InfoRMIA",
    "LabelOnly",
    "LiRA",
    "Loss",
    "Lowercase",
    "MinK",
    "MinKPlusPlus",
    "MoPe",
    "Neighbour",
    "PAC",
    "RMIA",
    "Recall",
    "Reference",
    "ReleasedMinK",
    "ReleasedMinKPlusPlus",
    "ReleasedZlib",
    "SaMIA",
    "TopKLoss",
    "WBC",
    "Zlib",
]


_BY_NAME: dict[str, type[Attack]] = {
    globals()[exported].name: globals()[exported] for exported in __all__ if exported != "Attack"
}


def describe_all() -> list[str]:
    """Returns the ids of all attacks."""
    return list(_BY_NAME)


def describe(name: str) -> type[Attack] | None:
    """Returns the attack of an id, with its title, description and threat model.

    Args:
        name: The id in the tables.

    Returns:
        Its class; None for an id that is no attack of this project.
    """
    return _BY_NAME.get(name)
