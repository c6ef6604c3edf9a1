"""Statistics of an audit: float64 scores in, figures with intervals out; no I/O, no Lightning."""

from callbacks.statistics.certified import certified_tpr
from callbacks.statistics.estimates import Estimate
from callbacks.statistics.multiplicity import holm, max_t
from callbacks.statistics.one_run_epsilon import (
    EpsilonBound,
    epsilon_equivalent,
    epsilon_lower_bound,
)
from callbacks.statistics.operating_points import TprEstimate, balanced_accuracy, tpr_at_fpr
from callbacks.statistics.ranking import (
    ComparisonEstimate,
    auroc,
    paired_difference,
    swap_estimate,
)
from callbacks.statistics.reliability import auroc_over_draws, reliability
from callbacks.statistics.replication import (
    ReplicateEstimate,
    minimal_detectable_difference,
    replicate_mean,
)

__all__ = [
    "ComparisonEstimate",
    "EpsilonBound",
    "Estimate",
    "ReplicateEstimate",
    "TprEstimate",
    "auroc",
    "auroc_over_draws",
    "balanced_accuracy",
    "certified_tpr",
    "epsilon_equivalent",
    "epsilon_lower_bound",
    "holm",
    "max_t",
    "minimal_detectable_difference",
    "paired_difference",
    "reliability",
    "replicate_mean",
    "swap_estimate",
    "tpr_at_fpr",
]
