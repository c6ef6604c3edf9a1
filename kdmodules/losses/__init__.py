"""Objectives of knowledge distillation and the chunked reduction that all of them share.

`docs/objectives.md` has the formulas and what other codes call them.
"""

from kdmodules.losses.adaptive_kl import AdaptiveKL as AdaptiveKL
from kdmodules.losses.alpha_beta import AlphaBeta as AlphaBeta
from kdmodules.losses.dataset_targets import DatasetTargets as DatasetTargets
from kdmodules.losses.divergence import KDLoss as KDLoss
from kdmodules.losses.kl import ForwardKL as ForwardKL
from kdmodules.losses.kl import ReverseKL as ReverseKL
from kdmodules.losses.kl import SymmetricKL as SymmetricKL
from kdmodules.losses.policy_gradient import PolicyGradient as PolicyGradient
from kdmodules.losses.reduction import cross_entropy as cross_entropy
from kdmodules.losses.reduction import reduce_step as reduce_step
from kdmodules.losses.returns import moment_sums as moment_sums
from kdmodules.losses.returns import padded_moment_sums as padded_moment_sums
from kdmodules.losses.returns import returns_to_go as returns_to_go
from kdmodules.losses.returns import rewards as rewards
from kdmodules.losses.returns import whiten as whiten
from kdmodules.losses.skew import JensenShannon as JensenShannon
from kdmodules.losses.skew import SkewForwardKL as SkewForwardKL
from kdmodules.losses.skew import SkewReverseKL as SkewReverseKL
from kdmodules.losses.step import Chunk as Chunk
from kdmodules.losses.step import HeadRows as HeadRows
from kdmodules.losses.step import KDStep as KDStep
from kdmodules.losses.step import LossSums as LossSums
from kdmodules.losses.step import NonFiniteLossError as NonFiniteLossError
from kdmodules.losses.step import Reduction as Reduction
from kdmodules.losses.step import TeacherRows as TeacherRows
from kdmodules.losses.taid import TAID as TAID
from kdmodules.losses.top_k import TeacherTopK as TeacherTopK
from kdmodules.losses.top_k_rows import TopKRows as TopKRows
from kdmodules.losses.total_variation import TotalVariation as TotalVariation
