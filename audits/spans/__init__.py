"""Extraction the way people ask for it: sensitive spans, near-verbatim answers, generic prompts."""
