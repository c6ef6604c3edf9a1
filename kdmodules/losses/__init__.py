"""Objectives of knowledge distillation and the chunked reduction that all of them share.

`docs/objectives.md` has the formulas and what other codes call them.
"""

from kdmodules.losses.adaptive_kl import AdaptiveKL
from kdmodules.losses.alpha_beta import AlphaBeta
from kdmodules.losses.dataset_targets import DatasetTargets
from kdmodules.losses.divergence import KDLoss
from kdmodules.losses.forward_kl import ForwardKL
from kdmodules.losses.jsd import JensenShannon
from kdmodules.losses.policy_gradient import PolicyGradient
from kdmodules.losses.reduction import cross_entropy, reduce_step
from kdmodules.losses.returns import (
    moment_sums,
    padded_moment_sums,
    returns_to_go,
    rewards,
    whiten,
)
from kdmodules.losses.reverse_kl import ReverseKL
from kdmodules.losses.skew_forward_kl import SkewForwardKL
from kdmodules.losses.skew_reverse_kl import SkewReverseKL
from kdmodules.losses.step import (
    Chunk,
    HeadRows,
    KDStep,
    LossSums,
    NonFiniteLossError,
    Reduction,
    TeacherRows,
)
from kdmodules.losses.symmetric_kl import SymmetricKL
from kdmodules.losses.taid import TAID
from kdmodules.losses.top_k import TeacherTopK
from kdmodules.losses.top_k_rows import TopKRows
from kdmodules.losses.total_variation import TotalVariation

__all__ = [
    "AdaptiveKL",
    "AlphaBeta",
    "Chunk",
    "DatasetTargets",
    "ForwardKL",
    "HeadRows",
    "JensenShannon",
    "KDLoss",
    "KDStep",
    "LossSums",
    "NonFiniteLossError",
    "PolicyGradient",
    "Reduction",
    "ReverseKL",
    "SkewForwardKL",
    "SkewReverseKL",
    "SymmetricKL",
    "TAID",
    "TeacherRows",
    "TeacherTopK",
    "TopKRows",
    "TotalVariation",
    "cross_entropy",
    "moment_sums",
    "padded_moment_sums",
    "reduce_step",
    "returns_to_go",
    "rewards",
    "whiten",
]
