"""Memorization metrics, one file each."""

from audits.memorization.metrics.base import MemorizationMetric as MemorizationMetric
from audits.memorization.metrics.base import Summary as Summary
from audits.memorization.metrics.exact_match import ExactMatch as ExactMatch
from audits.memorization.metrics.extraction_strength import ExtractionStrength as ExtractionStrength
from audits.memorization.metrics.n_p_extraction import NPExtraction as NPExtraction
from audits.memorization.metrics.near_match import NearMatch as NearMatch
from audits.memorization.metrics.token_accuracy import TokenAccuracy as TokenAccuracy
