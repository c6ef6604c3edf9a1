"""Texts that are scored for a record, one kind per file."""

from audits.membership.texts.base import Original, TextMaterial, TextVariant
from audits.membership.texts.lowercase import Lowercased
from audits.membership.texts.shots import Shots
from audits.membership.texts.span_infill import SpanInfill
from audits.membership.texts.word_dropout import WordDropout
from audits.membership.texts.word_swap import WordSwap

__all__ = [
    "Lowercased",
    "Original",
    "Shots",
    "SpanInfill",
    "TextMaterial",
    "TextVariant",
    "WordDropout",
    "WordSwap",
]
