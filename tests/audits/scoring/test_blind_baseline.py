"""The blind baseline: what it must find, what it must not, and the refits behind it."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from audits.scoring import text_folds
from audits.scoring.blind_baseline import (
    BlindOptions,
    BlindSide,
    BlindVerdict,
    blind_baseline,
    judge,
    judge_splits,
)
from audits.scoring.text_folds import TextFeatures, fold_aurocs, grouped_folds, log_odds
from common.errors import UserError
from common.keys import key
from datamodules.near_duplicates import cluster_records
from datamodules.records import InstructionRecord, read_records
from datamodules.synthetic import generate_records

QUICK = BlindOptions(repeats=1)


def cluster_ids(records: Sequence[InstructionRecord]) -> np.ndarray:
    return np.array([key(name) for name in cluster_records(records)], dtype=np.int64)


def sides(
    members: Sequence[InstructionRecord], nonmembers: Sequence[InstructionRecord]
) -> tuple[BlindSide, BlindSide]:
    ids = cluster_ids([*members, *nonmembers])
    return (
        BlindSide(members, ids[: len(members)]),
        BlindSide(nonmembers, ids[len(members) :]),
    )


def retold(record: InstructionRecord) -> InstructionRecord:
    """The record as another source would have it: a polite opening and a full stop more."""
    return replace(record, instruction=f"Please help. {record.instruction}")


@pytest.fixture(scope="module")
def pool() -> list[InstructionRecord]:
    return generate_records(120, 3)


def text_of(record: InstructionRecord) -> str:
    return f"{record.instruction}\n{record.context}\n{record.response}"


def by_scikit_learn(
    records: Sequence[InstructionRecord], train: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Log-odds of one labelling: vectorisers and regression of scikit-learn, fitted on a fold."""
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+", min_df=2, sublinear_tf=True)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 4), lowercase=False, min_df=2, sublinear_tf=True
    )
    texts = np.array([text_of(record) for record in records], dtype=object)
    lengths = np.log1p([[len(r.instruction) + len(r.context), len(r.response)] for r in records])
    names = sorted({record.task for record in records})
    columns = [
        vectoriser.fit(texts[train]).transform(texts).toarray()
        for vectoriser in (words, characters)
    ]
    columns.append((lengths - lengths[train].mean(axis=0)) / lengths[train].std(axis=0))
    columns.append(np.array([[record.task == name for name in names] for record in records]))
    features = np.hstack(columns).astype(np.float64)
    model = LogisticRegression(C=10.0, tol=1e-10, max_iter=10_000)
    return np.asarray(model.fit(features[train], labels[train]).decision_function(features))


def test_every_labelling_is_refitted_as_scikit_learn_fits_it(pool: list[InstructionRecord]) -> None:
    rng = np.random.default_rng(0)
    train = np.sort(rng.permutation(len(pool))[:90])
    labels = rng.random((len(pool), 3)) < np.array([0.5, 0.3, 0.8])
    found = log_odds(TextFeatures.of(pool).kernel(train), train, labels)
    for column in range(3):
        expected = by_scikit_learn(pool, train, labels[:, column])
        np.testing.assert_allclose(found[:, column], expected, atol=2e-3)


def test_sides_that_separate_are_solved_too(pool: list[InstructionRecord]) -> None:
    """Regressions of separable sides take the most steps."""
    records = [retold(one) if i % 2 else one for i, one in enumerate(pool)]
    train = np.arange(90)
    labels = np.array([[i % 2 == 0, i % 3 == 0] for i in range(len(pool))])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = log_odds(TextFeatures.of(records).kernel(train), train, labels)
    for column in range(2):
        expected = by_scikit_learn(records, train, labels[:, column])
        np.testing.assert_allclose(found[:, column], expected, atol=2e-3)


def test_a_regression_that_is_not_solved_says_so(
    pool: list[InstructionRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_folds, "_MOST_STEPS", 3)
    labels = np.array([[i % 2 == 0, i % 3 == 0] for i in range(len(pool))])
    folds = [np.arange(len(pool)) % 3]
    with pytest.warns(RuntimeWarning, match="2 of 2 regressions .* after 3 steps"):
        fold_aurocs(TextFeatures.of(pool), labels, folds)


def test_aurocs_are_the_mean_over_folds_of_scikit_learns(pool: list[InstructionRecord]) -> None:
    labels = np.random.default_rng(1).random((len(pool), 2)) < 0.5
    tasks, clusters = [record.task for record in pool], np.arange(len(pool))
    folds = list(grouped_folds(tasks, clusters, 3, 0, repeats=2))
    features = TextFeatures.of(pool)
    expected = []
    for assignment in folds:
        for fold in range(3):
            train, test = np.flatnonzero(assignment != fold), assignment == fold
            scores = log_odds(features.kernel(train), train, labels)
            expected.append([roc_auc_score(labels[test, c], scores[test, c]) for c in range(2)])
    np.testing.assert_allclose(fold_aurocs(features, labels, folds), np.mean(expected, axis=0))


def test_a_test_fold_of_one_class_is_left_out(pool: list[InstructionRecord]) -> None:
    one, two = np.repeat([0, 1, 2], 40), np.arange(120) % 3
    labels = np.array([[i >= 40 and i % 2 == 0] for i in range(120)])
    features = TextFeatures.of(pool)
    both = fold_aurocs(features, labels, [one, two])
    assert np.isfinite(both).all()
    train = np.flatnonzero(one != 0)
    assert np.isfinite(log_odds(features.kernel(train), train, labels)).all()
    none = np.zeros((120, 1), dtype=bool)
    assert np.isnan(fold_aurocs(features, none, [two])).all()


def test_folds_keep_clusters_whole_and_tasks_even() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 150, 300)
    tasks = [f"task {cluster % 4}" for cluster in clusters]
    folds = list(grouped_folds(tasks, clusters, 5, 0, repeats=2))
    assert not np.array_equal(*folds)
    for assignment in folds:
        assert all(len(set(assignment[clusters == one])) == 1 for one in set(clusters))
        for task in set(tasks):
            of_task = np.array([one == task for one in tasks])
            assert np.ptp(np.bincount(assignment[of_task], minlength=5)) <= 4
    again = list(grouped_folds(tasks, clusters, 5, 0, repeats=2))
    assert all(np.array_equal(a, b) for a, b in zip(folds, again, strict=True))


def test_the_verdict_follows_from_p_value_and_bound() -> None:
    null = stats.norm.ppf(np.arange(1, 200) / 200)
    near = judge(0.505, 0.5 + 0.02 * null, (400, 400), 0.05)
    assert near.shifted is False
    assert near.upper_bound == pytest.approx(0.505 + 1.6449 * near.standard_error, abs=1e-5)
    wide = judge(0.505, 0.5 + 0.06 * null, (100, 100), 0.05)
    assert wide.shifted is None
    assert wide.needed == pytest.approx(100 * (wide.standard_error * 2.4865 / 0.05) ** 2, rel=1e-3)
    far = judge(0.7, 0.5 + 0.02 * null, (400, 400), 0.05)
    assert (far.shifted, far.p_value) == (True, 1 / 200)
    once = judge(0.5 + 0.02 * null[-1], 0.5 + 0.02 * null, (400, 400), 0.05)
    assert (once.shifted, once.p_value) == (None, 2 / 200)
    below = judge(0.42, 0.4 + 0.005 * null, (400, 400), 0.05)
    assert (below.shifted, below.p_value) == (False, 1 / 200)
    lucky = judge(0.3, 0.5 + 0.06 * null, (100, 100), 0.05)
    assert lucky.shifted is None


def test_splits_are_judged_by_their_mean() -> None:
    aurocs, errors = np.array([0.47, 0.55, 0.49, 0.53, 0.52]), np.full(5, 0.038)
    found = judge_splits(aurocs, errors, 0.05)
    draws = np.random.default_rng(0).normal(0.5, errors, (200_000, 5)).mean(1)
    assert found.standard_error == pytest.approx(draws.std(), rel=0.01)
    assert found.p_value == pytest.approx(np.mean(draws >= aurocs.mean()), abs=0.005)
    above = found.upper_bound - aurocs.mean()
    assert above == pytest.approx(1.6449 * found.standard_error, abs=1e-5)
    assert found.shifted is False
    assert judge_splits(aurocs[:2], errors[:2], 0.05).shifted is None
    assert judge_splits(aurocs + 0.05, errors, 0.05).shifted is True
    assert judge_splits(aurocs - 0.2, 4 * errors, 0.05).shifted is None


def test_non_members_of_another_template_are_found() -> None:
    records = generate_records(160, 5)
    verdict = blind_baseline(*sides(records[:80], [retold(one) for one in records[80:]]), QUICK)
    assert verdict.shifted is True
    assert verdict.auroc > 0.8


def test_non_members_of_another_source_are_found() -> None:
    folder = Path(os.environ.get("KD_PRIVACY_DATA", "/work/shared/data")) / "dolly"
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        pytest.skip(f"{folder} has no records")
    dolly = read_records(str(files[0]))[:80]
    verdict = blind_baseline(*sides(generate_records(80, 5), dolly), QUICK)
    assert verdict.shifted is True
    assert verdict.auroc > 0.95


def test_sides_of_one_source_are_not_called_shifted() -> None:
    records = generate_records(160, 5)
    verdict = blind_baseline(*sides(records[:80], records[80:]), QUICK)
    assert verdict.shifted is not True
    assert (verdict.n_members, verdict.n_nonmembers) == (80, 80)


def test_too_few_records_say_so() -> None:
    records = generate_records(40, 1)
    few = blind_baseline(*sides(records[:9], records[9:]), QUICK)
    assert few.shifted is None
    assert np.isnan(few.auroc)
    assert few.needed == 413
    some = blind_baseline(*sides(records[:20], records[20:]), QUICK)
    assert some.shifted is None
    assert some.needed > 20


def test_the_verdict_depends_on_the_records_alone() -> None:
    records = generate_records(80, 7)
    members, nonmembers = sides(records[:40], records[40:])
    order = np.random.default_rng(0).permutation(40)
    shuffled = BlindSide([members.records[i] for i in order], members.clusters[order])
    assert blind_baseline(members, nonmembers, QUICK) == blind_baseline(shuffled, nonmembers, QUICK)


def test_a_large_side_is_drawn_by_whole_clusters() -> None:
    records = generate_records(100, 2)
    clusters = np.repeat(np.arange(25), 4)
    side = BlindSide(records, clusters)
    drawn = side.at_most(50, 0)
    assert 46 < len(drawn.records) <= 50
    assert set(np.bincount(drawn.clusters)) <= {0, 4}
    assert {one.id for one in drawn.records} <= {one.id for one in records}
    assert drawn.clusters.tolist() != side.at_most(50, 1).clusters.tolist()


@pytest.mark.parametrize(
    ("option", "value"), [("permutations", 99), ("margin", 0.5), ("folds", 1), ("max_records", 5)]
)
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"blind.{option}"):
        BlindOptions(**{option: value})


def verdicts(records: Sequence[InstructionRecord], splits: int) -> list[BlindVerdict]:
    """Verdicts on splits of one pool by chance."""
    clusters, found = cluster_ids(records), []
    for split in range(splits):
        halves = np.split(np.random.default_rng(split).permutation(len(records)), 2)
        two = (BlindSide([records[i] for i in half], clusters[half]) for half in halves)
        found.append(blind_baseline(*two, QUICK))
    return found


@pytest.mark.slow
def test_p_values_of_null_splits_are_not_small(pool: list[InstructionRecord]) -> None:
    found = verdicts(pool, 12)
    assert sum(one.shifted is True for one in found) <= 1
    assert sum(one.p_value <= 0.5 for one in found) not in (0, 12)


@pytest.mark.slow
def test_null_splits_are_rarely_called_shifted() -> None:
    found = verdicts(generate_records(400, 11), 200)
    assert sum(one.shifted is True for one in found) <= 4
