"""Texts that are scored for a record, one kind per file."""

from callbacks.membership.texts.base import Original, TextMaterial, TextVariant, with_responses

__all__ = ["Original", "TextMaterial", "TextVariant", "with_responses"]
