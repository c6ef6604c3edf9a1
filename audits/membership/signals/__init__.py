"""Signals that take more of the model than log-probabilities, one kind per file."""

from audits.membership.signals.answers import AnswerSimilarity
from audits.membership.signals.base import RecordSignal
from audits.membership.signals.continuations import ContinuationOverlap
from audits.membership.signals.divergence import Divergence
from audits.membership.signals.gradient_norm import GradientNorm
from audits.membership.signals.weight_noise import WeightNoise

__all__ = [
    "AnswerSimilarity",
    "ContinuationOverlap",
    "Divergence",
    "GradientNorm",
    "RecordSignal",
    "WeightNoise",
]
