"""Memorization: what a model writes of its records by itself, and how often chance would too."""
