"""A cross-validated logistic probe on many labellings, its penalty chosen in the training folds.

The regression is the exact dual one of ``callbacks.membership.text_folds``: a permuted labelling is
fitted anew, with a penalty of its own, at the cost of one more column in a matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from callbacks.membership.text_folds import grouped_folds, log_odds
from callbacks.statistics.estimates import FloatArray, IntArray
from callbacks.statistics.multiplicity import permuted_labels
from datamodules.keys import numpy_generator

# The regression's own penalty belongs to C = 10; a kernel scaled by c has it at C = 10 c.
_C_OF_KERNEL = 10.0


@dataclass(frozen=True)
class ProbeOptions:
    """How a probe is fitted and judged.

    Attributes:
        strengths: Inverse penalties C to choose from, of the sum of log-losses on standardised
            features divided by the root of their number.
        folds: Folds whose records are judged by what the others taught.
        inner_folds: Folds inside each training part, by which C is chosen.
        permutations: Permuted labellings.
        seed: Of folds and permutations; not the run's, so that two runs on the same records have
            the same folds.
    """

    strengths: tuple[float, ...]
    folds: int
    inner_folds: int
    permutations: int
    seed: int


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found at one block.

    Attributes:
        auroc: Mean over folds of the AUROC of held-out records.
        standard_error: Of the AUROC, from the permuted labellings.
        p_value: Share of labellings with an AUROC at least as high, the observed one counted.
        scores: [N] held-out log-odds of every record.
    """

    auroc: float
    standard_error: float
    p_value: float
    scores: FloatArray


def probe(
    features: FloatArray,
    inside: NDArray[np.bool_],
    tasks: Sequence[str],
    clusters: IntArray,
    options: ProbeOptions,
) -> ProbeResult:
    """Fits and judges a probe.

    Folds keep near-duplicate clusters whole and spread tasks evenly; they do not know the labels,
    so that the observed labelling and the permuted ones are exchangeable. Everything is fitted on
    the training part of a fold: means and deviations of the features, C, and the weights.

    Args:
        features: [N, D].
        inside: [N] True for a member.
        tasks: [N].
        clusters: [N] ids.
        options: See `ProbeOptions`.

    Returns:
        The result; AUROCs of folds are averaged, since pooled held-out scores are biased.
    """
    rng = numpy_generator(options.seed, "probe permutations")
    labels = permuted_labels(inside, clusters, options.permutations, rng)  # [N, 1 + P]
    (assignment,) = grouped_folds(tasks, clusters, options.folds, options.seed, 1)
    scores = np.zeros(len(features))
    found = []
    for fold in range(int(assignment.max()) + 1):
        test = assignment == fold
        train = np.flatnonzero(~test)
        groups = (np.asarray(tasks)[train].tolist(), clusters[train])
        (inner,) = grouped_folds(*groups, options.inner_folds, options.seed + 1, 1)
        chosen = _best_strength(features[train], labels[train], inner, options)  # [1 + P]
        odds = _fitted(features, train, labels, options)[chosen, :, np.arange(chosen.size)].T
        scores[test] = odds[test, 0]
        found.append(_aurocs(odds[test], labels[test]))
    aurocs = np.nanmean(found, axis=0)
    return ProbeResult(
        auroc=float(aurocs[0]),
        standard_error=float(np.std(aurocs[1:], ddof=1)),
        p_value=float((aurocs >= aurocs[0] - 1e-12).mean()),
        scores=scores,
    )


def _best_strength(
    features: FloatArray, labels: NDArray[np.bool_], folds: IntArray, options: ProbeOptions
) -> IntArray:
    """Returns the place of the C with the highest mean AUROC on the inner folds, [P]."""
    found = []
    for fold in range(int(folds.max()) + 1):
        test = folds == fold
        odds = _fitted(features, np.flatnonzero(~test), labels, options)
        found.append([_aurocs(one[test], labels[test]) for one in odds])
    known = np.nan_to_num(np.array(found), nan=0.5)  # [folds, C, P]
    return np.asarray(known.mean(axis=0).argmax(axis=0))


def _fitted(
    features: FloatArray, train: IntArray, labels: NDArray[np.bool_], options: ProbeOptions
) -> FloatArray:
    """Returns the log-odds of all records under every C, [C, N, P]."""
    kernel = standardised_kernel(features, train)
    return np.stack(
        [log_odds(kernel * (c / _C_OF_KERNEL), train, labels) for c in options.strengths]
    )


def standardised_kernel(features: FloatArray, train: IntArray) -> FloatArray:
    """Inner products of all records with the training ones, [N, M], features standardised.

    Means and deviations are those of the training records. The product is divided by the number of
    features, so that one C means the same at every width.
    """
    spread = features[train].std(axis=0)
    scaled = (features - features[train].mean(axis=0)) / np.where(spread > 0.0, spread, 1.0)
    return np.asarray(scaled @ scaled[train].T / features.shape[1])


def _aurocs(scores: FloatArray, labels: NDArray[np.bool_]) -> FloatArray:
    """Returns the AUROC of each column, [P]; NaN where one side has no record."""
    ranks = stats.rankdata(scores, axis=0)
    inside = labels.sum(axis=0).astype(np.float64)
    pairs = inside * (len(labels) - inside)
    wins = (ranks * labels).sum(axis=0) - inside * (inside + 1) / 2.0
    return np.asarray(np.divide(wins, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0))
