"""Exposure of single records, out of models that were trained with and without each of them."""
