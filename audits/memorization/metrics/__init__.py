"""Memorization metrics, one file each."""

from audits.memorization.metrics.base import MemorizationMetric, Summary
from audits.memorization.metrics.exact_match import ExactMatch
from audits.memorization.metrics.extraction_strength import ExtractionStrength
from audits.memorization.metrics.n_p_extraction import NPExtraction
from audits.memorization.metrics.near_match import NearMatch
from audits.memorization.metrics.token_accuracy import TokenAccuracy

__all__ = [
    "ExactMatch",
    "ExtractionStrength",
    "MemorizationMetric",
    "NPExtraction",
    "NearMatch",
    "Summary",
    "TokenAccuracy",
]
