"""Correction of p-values for the number of hypotheses in a family."""

import numpy as np
from numpy.typing import ArrayLike

from callbacks.statistics.estimates import FloatArray


def holm(p_values: ArrayLike) -> FloatArray:
    """Holm's step-down adjusted p-values: reject where the result is at most the error rate.

    The i-th smallest of k p-values is multiplied by k - i + 1, then the running maximum is taken
    and cut at 1 (Holm 1979, Scandinavian Journal of Statistics 6). A NaN is a hypothesis that was
    not tested: it stays NaN and does not count in k.

    Args:
        p_values: [k], each in [0, 1] or NaN.

    Returns:
        [k] float64, in the order given.

    Raises:
        ValueError: Not a vector, or a value outside [0, 1].

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise ValueError(f"p_values: expected a vector, found shape {p.shape}")
    tested = np.flatnonzero(~np.isnan(p))
    family = p[tested]
    if np.any((family < 0.0) | (family > 1.0)):
        raise ValueError("p_values: expected numbers between 0 and 1")
    order = np.argsort(family, kind="stable")
    stepped = family[order] * np.arange(family.size, 0, -1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[tested[order]] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted
