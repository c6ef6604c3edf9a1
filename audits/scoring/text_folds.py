"""Cross-validated logistic regression on text, for many labellings of the same records at once.

The folds and the features of a fold do not depend on the labels, so a permuted labelling is fitted
from scratch at the cost of one more column in a matrix product. The regression is exact: it is
solved in its dual form, whose kernel has the size of the training fold and not of the vocabulary.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy import linalg, special, stats

from common.keys import numpy_generator
from datamodules.records import InstructionRecord

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST_DOCUMENTS = 2
# C = 10: on planted shifts of Dolly text 1.3 to 3 times as many standard errors as C = 1.
_PENALTY = 0.1
_TOLERANCE = 1e-4
_MOST_STEPS = 5000


@dataclass(frozen=True)
class TextFeatures:
    """What a reader sees of N records, counted once; nothing in it is fitted.

    Attributes:
        words: [N, V] 1 + ln(count) of each word and pair of words, letter case ignored.
        characters: [N, W] the same of runs of 3 and 4 characters inside words, case kept.
        lengths: [N, 2] ln(1 + characters) of the prompt (instruction and context) and response.
        tasks: [N, T] one-hot.
    """

    words: sp.csr_matrix
    characters: sp.csr_matrix
    lengths: Floats
    tasks: Floats

    @staticmethod
    def of(records: Sequence[InstructionRecord]) -> "TextFeatures":
        """Counts the records' instruction, context and response as one text."""
        from sklearn.feature_extraction.text import CountVectorizer

        texts = ["\n".join((one.instruction, one.context, one.response)) for one in records]
        lengths = [(len(one.instruction) + len(one.context), len(one.response)) for one in records]
        names = sorted({one.task for one in records})
        tasks = [[one.task == name for name in names] for one in records]
        words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+")
        characters = CountVectorizer(analyzer="char_wb", ngram_range=(3, 4), lowercase=False)
        return TextFeatures(
            _log_counts(words, texts),
            _log_counts(characters, texts),
            np.log1p(np.array(lengths, dtype=np.float64)),
            np.array(tasks, dtype=np.float64),
        )

    def kernel(self, train: Ints) -> Floats:
        """Inner products of all records with a training fold's, features fitted on that fold.

        The two n-gram blocks are TF-IDF (document frequencies and vocabulary of the fold, n-grams
        of at least two of its records, each record scaled to length 1), lengths are standardised.

        Args:
            train: [M] rows of the training fold.

        Returns:
            [N, M].
        """
        total = np.zeros((len(self.lengths), train.size))
        for counts in (self.words, self.characters):
            weighted = _tfidf(counts, train)
            total += (weighted @ weighted[train].T).toarray()
        spread = self.lengths[train].std(axis=0)
        scale = np.where(spread > 0.0, spread, 1.0)
        lengths = (self.lengths - self.lengths[train].mean(axis=0)) / scale
        return total + lengths @ lengths[train].T + self.tasks @ self.tasks[train].T


def fold_aurocs(
    features: TextFeatures,
    labels: NDArray[np.bool_],
    folds: Sequence[Ints],
) -> Floats:
    """AUROC of held-out log-odds of a logistic regression, per fold and then averaged.

    L2-penalised with C = 10 and a free intercept, fitted anew for each labelling and each fold.

    Args:
        features: Of the N records.
        labels: [N, P] True for a member; each column is a labelling.
        folds: Assignments [N] of records to folds 0, 1, ...; one for each repetition.

    Returns:
        [P]; a fold whose test part has one class only is left out of that labelling's mean, and
        NaN stands where that is so in all of them.
    """
    found = [
        _test_aurocs(features, labels, assignment == fold)
        for assignment in folds
        for fold in range(int(assignment.max()) + 1)
    ]
    known = ~np.isnan(found)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(found, axis=0) / known.sum(axis=0))


def grouped_folds(
    tasks: Sequence[str], clusters: Ints, n_folds: int, seed: int, repeats: int
) -> Iterator[Ints]:
    """Yields assignments of records to folds: clusters whole, tasks evenly spread, labels unseen.

    Folds that were stratified by the label would suit the observed labelling better than the
    permuted ones, and the two would no longer be exchangeable.

    Args:
        tasks: [N].
        clusters: [N] ids.
        n_folds: Number of folds.
        seed: Key of the assignments.
        repeats: Number of assignments.

    Yields:
        [N] fold of each record.
    """
    names, first, index = np.unique(clusters, return_index=True, return_inverse=True)
    sizes = np.bincount(index)
    for repeat in range(repeats):
        shuffled = numpy_generator(seed, "blind folds", repeat).permutation(names.size)
        fold_of = np.zeros(names.size, dtype=np.int64)
        totals, by_task = [0] * n_folds, Counter[tuple[str, int]]()
        for cluster in sorted(shuffled, key=lambda one: -sizes[one]):
            task = tasks[first[cluster]]
            chosen = min(range(n_folds), key=lambda fold: (by_task[task, fold], totals[fold]))
            fold_of[cluster] = chosen
            by_task[task, chosen] += int(sizes[cluster])
            totals[chosen] += int(sizes[cluster])
        yield fold_of[index]


def log_odds(kernel: Floats, train: Ints, labels: NDArray[np.bool_]) -> Floats:
    """Log-odds of penalised logistic regressions, all fitted at once.

    Minimises sum of log(1 + exp(-s f)) + penalty/2 a' K a with f = K a + b for each labelling, by
    majorisation: the curvature p(1 - p) is at most 1/4 (Boehning and Lindsay 1988, Annals of the
    Institute of Statistical Mathematics 40), so each step is a ridge regression of f + 4(y - p)
    whose matrix is the same for all labellings and steps.

    Args:
        kernel: [N, M] inner products with the training records.
        train: [M] their rows.
        labels: [N, P].

    Returns:
        [N, P] log-odds of all records.

    Warns:
        RuntimeWarning: Some regressions were not solved within the most steps.
    """
    system = kernel[train] + 4.0 * _PENALTY * np.eye(train.size)
    inverse = linalg.cho_solve(linalg.cho_factor(system), np.eye(train.size))
    weights, intercept = _solved(inverse, labels[train].astype(np.float64))
    return np.asarray(kernel @ weights + intercept)


def _solved(inverse: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Weights [M, P] and intercepts [P] of the regressions of the labellings y [M, P].

    A ridge regression of f + 4(y - p) is a proximal gradient step, so that it may start beyond f,
    where the last step led (Beck and Teboulle 2009, SIAM Journal on Imaging Sciences 2, FISTA). A
    labelling whose step turns back gathers speed anew (O'Donoghue and Candes 2015, Foundations of
    Computational Mathematics 15, section 3.2).
    """
    of_ones = inverse.sum(axis=1, keepdims=True)  # [M, 1]
    fitted = start = np.zeros_like(y)
    pace = np.ones(y.shape[1])
    for _ in range(_MOST_STEPS):
        response = start + 4.0 * (y - special.expit(start))
        weights = inverse @ response
        intercept = weights.sum(axis=0) / of_ones.sum()
        weights -= of_ones * intercept
        new = response - 4.0 * _PENALTY * weights
        moved = np.abs(new - start).max(axis=0)  # [P]
        if moved.max() < _TOLERANCE:
            return weights, intercept
        pace[((start - new) * (new - fitted)).sum(axis=0) > 0.0] = 1.0
        faster = (1.0 + np.sqrt(1.0 + 4.0 * pace**2)) / 2.0
        start = new + (pace - 1.0) / faster * (new - fitted)
        fitted, pace = new, faster
    warnings.warn(
        f"blind baseline: {int((moved >= _TOLERANCE).sum())} of {moved.size} regressions still "
        f"moved by up to {moved.max():.2g} after {_MOST_STEPS} steps, so that its AUROC is that "
        "of a weaker reader",
        RuntimeWarning,
        stacklevel=3,
    )
    return weights, intercept


def _test_aurocs(
    features: TextFeatures, labels: NDArray[np.bool_], test: NDArray[np.bool_]
) -> Floats:
    """[P] AUROCs on one test fold."""
    train = np.flatnonzero(~test)
    scores = log_odds(features.kernel(train), train, labels)[test]
    return aurocs_of(scores, labels[test])


def aurocs_of(scores: Floats, labels: NDArray[np.bool_]) -> Floats:
    """Returns the AUROC of each column of scores, NaN where a column has records of one side only.

    Args:
        scores: [N, P].
        labels: [N, P] where a record counts as a member.
    """
    ranks = stats.rankdata(scores, axis=0)
    members = labels.sum(axis=0).astype(np.float64)
    pairs = members * (len(labels) - members)
    wins = (ranks * labels).sum(axis=0) - members * (members + 1) / 2.0
    return np.asarray(np.divide(wins, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0))


def _log_counts(vectoriser: "CountVectorizer", texts: Sequence[str]) -> sp.csr_matrix:
    """1 + ln(count), without the n-grams that no training fold can hold often enough."""
    counts = vectoriser.fit_transform(texts).tocsr().astype(np.float64)
    documents = np.bincount(counts.indices, minlength=counts.shape[1])
    counts = counts[:, documents >= FEWEST_DOCUMENTS]
    counts.data = 1.0 + np.log(counts.data)
    return counts


def _tfidf(counts: sp.csr_matrix, train: Ints) -> sp.csr_matrix:
    """TF-IDF of all records with the document frequencies of the training records."""
    documents = np.bincount(counts[train].indices, minlength=counts.shape[1])
    smoothed = np.log((1.0 + train.size) / (1.0 + documents)) + 1.0
    idf = np.where(documents >= FEWEST_DOCUMENTS, smoothed, 0.0)
    data = counts.data * idf[counts.indices]
    weighted = sp.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)
    norms = np.sqrt(np.asarray(weighted.power(2).sum(axis=1)).ravel())
    scaled = sp.diags(np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0.0))
    return (scaled @ weighted).tocsr()
