"""Membership attacks, one file each."""

from callbacks.membership.attacks.base import Attack
from callbacks.membership.attacks.con_recall import ConRecall
from callbacks.membership.attacks.dc_pdd import DCPDD
from callbacks.membership.attacks.grad_norm import GradNorm
from callbacks.membership.attacks.lira import LiRA
from callbacks.membership.attacks.loss import Loss
from callbacks.membership.attacks.lowercase import Lowercase
from callbacks.membership.attacks.min_k import MinK
from callbacks.membership.attacks.min_k_plus_plus import MinKPlusPlus
from callbacks.membership.attacks.mope import MoPe
from callbacks.membership.attacks.neighbour import Neighbour
from callbacks.membership.attacks.pac import PAC
from callbacks.membership.attacks.recall import Recall
from callbacks.membership.attacks.reference import Reference
from callbacks.membership.attacks.released_min_k import ReleasedMinK
from callbacks.membership.attacks.released_min_k_plus_plus import ReleasedMinKPlusPlus
from callbacks.membership.attacks.released_zlib import ReleasedZlib
from callbacks.membership.attacks.rmia import RMIA
from callbacks.membership.attacks.samia import SaMIA
from callbacks.membership.attacks.zlib import Zlib

__all__ = [
    "Attack",
    "ConRecall",
    "DCPDD",
    "GradNorm",
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
    "Zlib",
]
