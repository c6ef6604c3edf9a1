"""Signals that take more of the model than log-probabilities, one kind per file."""

from callbacks.membership.signals.base import ModelAccess, RecordSignal

__all__ = ["ModelAccess", "RecordSignal"]
