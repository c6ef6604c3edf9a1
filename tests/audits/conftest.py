"""The tiny models of the kdmodules tests."""

from tests.kdmodules.conftest import family_model, tokenizer

__all__ = ["family_model", "tokenizer"]
