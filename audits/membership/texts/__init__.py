"""Texts that are scored for a record, one kind per file."""

from audits.membership.texts.base import Original as Original
from audits.membership.texts.base import TextMaterial as TextMaterial
from audits.membership.texts.base import TextVariant as TextVariant
from audits.membership.texts.lowercase import Lowercased as Lowercased
from audits.membership.texts.shots import Shots as Shots
from audits.membership.texts.span_infill import SpanInfill as SpanInfill
from audits.membership.texts.word_dropout import WordDropout as WordDropout
from audits.membership.texts.word_swap import WordSwap as WordSwap
