"""Correction for the number of hypotheses in a family: Holm's, the false-discovery rate, max-T."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from audits.statistics.estimates import FloatArray, IntArray, as_clusters


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


def benjamini_hochberg(p_values: ArrayLike) -> FloatArray:
    """Adjusted p-values for the false-discovery rate: reject where at most the rate.

    The i-th smallest of k is multiplied by k / i, then the running minimum from the largest down
    is taken (Benjamini and Hochberg 1995, Journal of the Royal Statistical Society B 57). Holds for
    independent p-values, and for positively dependent ones (Benjamini and Yekutieli 2001).

    Args:
        p_values: [k], each in [0, 1].

    Returns:
        [k] float64, in the order given.

    Raises:
        ValueError: Not a vector, or a value outside [0, 1].

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.04, 0.04]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError("p_values: expected a vector of numbers between 0 and 1")
    return np.asarray(stats.false_discovery_control(p)) if p.size else p


@dataclass(frozen=True)
class MaxT:
    """What K attacks say together of "none of them tells members from non-members".

    Attributes:
        p_values: [K] adjusted; the smallest is that of "no attack leaks".
        statistics: [K] AUROC, standardised by its mean and standard deviation over labellings.
    """

    p_values: FloatArray
    statistics: FloatArray


# Labels held at once, of one labelling at least: 8 bytes each where they meet the ranks.
_LABELS_AT_ONCE = 2**18


def max_t(
    members: ArrayLike,
    nonmembers: ArrayLike,
    n_permutations: int = 999,
    *,
    member_clusters: ArrayLike | None = None,
    nonmember_clusters: ArrayLike | None = None,
    seed: int | Sequence[int] | np.random.Generator = 0,
) -> MaxT:
    """Single-step max-T p-values of K attacks on the same records: does any of them leak?

    Each attack's AUROC is standardised by its mean and standard deviation over the labellings, the
    observed one among them. The adjusted p-value of an attack is the share of labellings whose
    largest standardised AUROC over all attacks is at least that attack's own (Westfall and Young
    1993, algorithm 2.5 with one step). The smallest of them tests "no attack leaks". It is far
    less strict than Holm's where attacks are alike. Attacks below 0.5 count as no evidence.

    Args:
        members: [K, n] scores, higher = more likely a member.
        nonmembers: [K, m].
        n_permutations: Permuted labellings.
        member_clusters: [n] integer ids, or None for independent records.
        nonmember_clusters: [m] integer ids; the same id on both sides is the same cluster.
        seed: Key of the permutations, anything that `numpy.random.default_rng` takes.

    Returns:
        Adjusted p-values, each at least 1 / (n_permutations + 1), and what they belong to.

    Raises:
        ValueError: Shapes that do not match, no records on a side, NaN, ids that do not match, or
            no permutation.
    """
    x, y = np.asarray(members, dtype=np.float64), np.asarray(nonmembers, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not x.size or not y.size:
        raise ValueError(f"expected [K, n] and [K, m] scores, found {x.shape} and {y.shape}")
    scores = np.concatenate([x, y], axis=1)
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} scores are NaN")
    inside = np.arange(scores.shape[1]) < x.shape[1]
    ids = _joint_clusters(member_clusters, nonmember_clusters, x.shape[1], y.shape[1])
    ranks = stats.rankdata(scores, axis=1)
    drawn = labellings(inside, ids, n_permutations, np.random.default_rng(seed))
    aurocs = []
    at_once = max(1, _LABELS_AT_ONCE // inside.size)
    while chunk := list(islice(drawn, at_once)):
        labels = np.stack(chunk).T
        n_members = labels.sum(axis=0)
        pairs = n_members * (inside.size - n_members)
        aurocs.append((ranks @ labels - n_members * (n_members + 1) / 2.0) / pairs)
    every = np.concatenate(aurocs, axis=1)  # [K, 1 + P]
    spread = every.std(axis=1, keepdims=True)
    centred = every - every.mean(axis=1, keepdims=True)
    standardised = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0.0)
    largest = standardised.max(axis=0)  # [1 + P]
    # Rounding must not part the observed labelling from one that is the same.
    reached = largest >= standardised[:, :1] - 1e-12
    return MaxT(np.asarray(reached.mean(axis=1)), standardised[:, 0].copy())


def permuted_labels(
    inside: NDArray[np.bool_], clusters: IntArray, n_permutations: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """All of :func:`labellings` at once, [N, 1 + n_permutations]."""
    return np.stack(list(labellings(inside, clusters, n_permutations, rng))).T


def labellings(
    inside: NDArray[np.bool_], clusters: IntArray, n_permutations: int, rng: np.random.Generator
) -> Iterator[NDArray[np.bool_]]:
    """Labellings of records under which no text or score has to do with membership.

    The labels of clusters are exchanged, the same number of them members each time. A cluster that
    lies on both sides was not dealt as one: its part on each side is a unit of its own.

    Args:
        inside: [N] True for a member.
        clusters: [N] ids.
        n_permutations: Labellings to draw.
        rng: Where they are drawn from.

    Yields:
        [N]; first the observed labelling.

    Raises:
        ValueError: No permutation asked for.
    """
    if n_permutations < 1:
        raise ValueError(f"n_permutations: expected 1 or more, found {n_permutations}")
    pairs, units = np.unique(np.stack([clusters, inside]), axis=1, return_inverse=True)
    labels = pairs[1].astype(bool)
    units = units.ravel()
    yield labels[units]
    for _ in range(n_permutations):
        yield rng.permuted(labels)[units]


def _joint_clusters(
    member_clusters: ArrayLike | None, nonmember_clusters: ArrayLike | None, n: int, m: int
) -> IntArray:
    """[n + m] ids of both sides; every record its own cluster where none are given."""
    x = as_clusters(member_clusters, n, "member_clusters")
    y = as_clusters(nonmember_clusters, m, "nonmember_clusters")
    if (x is None) != (y is None):
        raise ValueError("clusters: give ids for members and non-members, or for neither")
    if x is None or y is None:
        return np.arange(n + m)
    return np.concatenate([x, y])
