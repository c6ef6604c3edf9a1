"""Signals that take more of the model than log-probabilities, one kind per file."""

from callbacks.membership.signals.base import ModelAccess, RecordSignal
from callbacks.membership.signals.continuations import ContinuationOverlap
from callbacks.membership.signals.gradient_norm import GradientNorm
from callbacks.membership.signals.weight_noise import WeightNoise

__all__ = ["ContinuationOverlap", "GradientNorm", "ModelAccess", "RecordSignal", "WeightNoise"]
