"""Membership attacks, one file each."""

from callbacks.membership.attacks.base import Attack
from callbacks.membership.attacks.lira import LiRA
from callbacks.membership.attacks.loss import Loss
from callbacks.membership.attacks.min_k import MinK
from callbacks.membership.attacks.min_k_plus_plus import MinKPlusPlus
from callbacks.membership.attacks.reference import Reference
from callbacks.membership.attacks.rmia import RMIA
from callbacks.membership.attacks.zlib import Zlib

__all__ = ["RMIA", "Attack", "LiRA", "Loss", "MinK", "MinKPlusPlus", "Reference", "Zlib"]
