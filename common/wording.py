"""P-values in words: those that underflow say no more than that they are tiny."""

__all__ = ["p_value_text"]

_LEAST = 1e-16
"""Below it a p-value is the tail of an approximation that nobody has checked so far out."""


def p_value_text(p_value: float) -> str:
    """Returns a p-value with its relation.

    >>> p_value_text(0.0213), p_value_text(0.0)
    ('p = 0.021', 'p < 1e-16')
    """
    return f"p < {_LEAST:g}" if p_value < _LEAST else f"p = {p_value:.2g}"
