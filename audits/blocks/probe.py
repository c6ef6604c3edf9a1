"""A cross-validated logistic probe on many labellings, its penalty chosen in the training folds.

The regression is the exact dual one of ``audits.scoring.text_folds``: a permuted labelling is
fitted anew, with a penalty of its own, at the cost of one more column in a matrix product.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.scoring.text_folds import aurocs_of, grouped_folds, log_odds
from audits.statistics.estimates import FloatArray, IntArray
from audits.statistics.multiplicity import permuted_labels
from common.keys import numpy_generator

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
        permuted: [P] AUROC of every permuted labelling.
        labellings: P ids; equal ids mean the same labels, clusters and folds.
    """

    auroc: float
    standard_error: float
    p_value: float
    scores: FloatArray
    permuted: FloatArray
    labellings: tuple[str, ...]


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
        found.append(aurocs_of(odds[test], labels[test]))
    aurocs = np.nanmean(found, axis=0)
    return ProbeResult(
        auroc=float(aurocs[0]),
        standard_error=float(np.std(aurocs[1:], ddof=1)),
        p_value=float((aurocs >= aurocs[0] - 1e-12).mean()),
        scores=scores,
        permuted=aurocs[1:],
        labellings=_labelling_ids(labels[:, 1:], clusters, assignment),
    )


def _labelling_ids(
    labels: NDArray[np.bool_], clusters: IntArray, folds: IntArray
) -> tuple[str, ...]:
    """Names each column of labels [N, P] by its place and its members in every cluster.

    The order of the records is nothing.
    """
    names, first, index = np.unique(clusters, return_index=True, return_inverse=True)
    members = np.zeros((names.size, labels.shape[1]), dtype=np.int64)
    np.add.at(members, index, labels)
    common = np.stack([names, np.bincount(index), folds[first]]).astype(np.int64).tobytes()
    return tuple(
        f"{draw:04d}-{hashlib.blake2b(common + one.tobytes(), digest_size=8).hexdigest()}"
        for draw, one in enumerate(np.ascontiguousarray(members.T))
    )


def joint_p_values(observed: FloatArray, permuted: FloatArray, *, directed: bool) -> FloatArray:
    """P-values of the blocks' figures, corrected over blocks by their joint permutations.

    Single-step max-T (Westfall and Young 1993, algorithm 2.5), as ``statistics.max_t``, on figures
    of probes that were fitted anew to each labelling. Holm's correction multiplies the smallest
    p-value that 199 labellings can give by the number of blocks; this one does not.

    Args:
        observed: [L] figures under the observed labels.
        permuted: [P, L] the same under permuted ones.
        directed: Whether only a figure above the others counts; otherwise one as far from their
            mean on either side.

    Returns:
        [L], at least 1 / (P + 1).
    """
    figures = np.concatenate([observed[None], permuted])  # [1 + P, L]
    centred = figures - figures.mean(axis=0)
    spread = figures.std(axis=0)
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0.0)
    reached = scaled if directed else np.abs(scaled)
    # Rounding must not part the observed labelling from one that is the same.
    return np.asarray((reached.max(axis=1)[:, None] >= reached[:1] - 1e-12).mean(axis=0))


def _best_strength(
    features: FloatArray, labels: NDArray[np.bool_], folds: IntArray, options: ProbeOptions
) -> IntArray:
    """Returns the place of the C with the highest mean AUROC on the inner folds, [P]."""
    found = []
    for fold in range(int(folds.max()) + 1):
        test = folds == fold
        odds = _fitted(features, np.flatnonzero(~test), labels, options)
        found.append([aurocs_of(one[test], labels[test]) for one in odds])
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
