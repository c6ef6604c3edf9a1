"""Statistics of an audit: float64 scores in, figures with intervals out; no I/O, no Lightning."""

from audits.statistics.certified import certified_tpr
from audits.statistics.estimates import Estimate
from audits.statistics.multiplicity import holm, max_t
from audits.statistics.one_run_epsilon import (
    EpsilonBound,
    epsilon_equivalent,
    epsilon_lower_bound,
)
from audits.statistics.operating_points import TprEstimate, balanced_accuracy, tpr_at_fpr
from audits.statistics.ranking import (
    ComparisonEstimate,
    auroc,
    paired_difference,
    swap_estimate,
)
from audits.statistics.reliability import auroc_over_draws, reliability
from audits.statistics.replication import (
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
