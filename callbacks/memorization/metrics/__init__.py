"""Memorization metrics, one file each."""

from callbacks.memorization.metrics.base import MemorizationMetric, Summary
from callbacks.memorization.metrics.exact_match import ExactMatch
from callbacks.memorization.metrics.extraction_strength import ExtractionStrength
from callbacks.memorization.metrics.n_p_extraction import NPExtraction
from callbacks.memorization.metrics.near_match import NearMatch
from callbacks.memorization.metrics.token_accuracy import TokenAccuracy

__all__ = [
    "ExactMatch",
    "ExtractionStrength",
    "MemorizationMetric",
    "NPExtraction",
    "NearMatch",
    "Summary",
    "TokenAccuracy",
]
