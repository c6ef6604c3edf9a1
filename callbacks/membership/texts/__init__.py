"""Texts that are scored for a record, one kind per file."""

from callbacks.membership.texts.base import Original, TextMaterial, TextVariant, with_responses
from callbacks.membership.texts.lowercase import Lowercased
from callbacks.membership.texts.shots import Shots
from callbacks.membership.texts.span_infill import SpanInfill
from callbacks.membership.texts.word_dropout import WordDropout
from callbacks.membership.texts.word_swap import WordSwap

__all__ = [
    "Lowercased",
    "Original",
    "Shots",
    "SpanInfill",
    "TextMaterial",
    "TextVariant",
    "WordDropout",
    "WordSwap",
    "with_responses",
]
