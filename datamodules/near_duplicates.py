"""Clusters of records that say nearly the same, speak about the same passage or of one subject.

A split that puts two halves of such a cluster on two sides measures recognition of a twin, not
membership, so clusters stay whole. Candidates come from MinHash and locality-sensitive hashing
(Broder 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3); each
candidate pair is then decided by its exact Jaccard similarity, so hashing can miss a pair close to
the threshold but never invents one.
"""

import hashlib
import random
import re
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datamodules.records import InstructionRecord, normalise

_WORD = re.compile(r"\w+")
_PERMUTATIONS = 64
_MISSED_PAIR_WEIGHT = 0.9  # against 0.1 for a false candidate, which costs one exact comparison
# Odd, so that each position of a shingle is a bijection of 2^64.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def cluster_records(
    records: Sequence[InstructionRecord],
    *,
    threshold: float = 0.7,
    shingle_words: int = 3,
    passage_words: int = 8,
) -> list[str]:
    """Names the cluster of each record.

    Two records are linked where their content is equal, where they are of one subject, where
    instruction, context and response together have a Jaccard similarity of at least `threshold`
    over word shingles, or where their contexts are passages that are equal or as similar as that.
    Of a chat all turns count but system ones, which a whole data set may share. A cluster is what
    the links connect, over any number of steps.

    Args:
        records: the records, in any order; the clusters do not depend on it.
        threshold: Jaccard similarity from which two texts are near-duplicates, in (0, 1].
        shingle_words: consecutive words in a shingle.
        passage_words: contexts with fewer words are not passages and link nothing.

    Returns:
        For each record the smallest content hash (`InstructionRecord.content`) in its cluster.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], found {threshold}")
    contents = [record.content for record in records]
    passages = [normalise(record.context).casefold() for record in records]
    long_enough = [len(_WORD.findall(passage)) >= passage_words for passage in passages]

    hasher = _ShingleHasher(shingle_words)
    links, first_texts = _equal(enumerate(contents))
    links += _equal((i, r.subject) for i, r in enumerate(records) if r.subject is not None)[0]
    links += _similar({i: hasher.shingles(_whole_text(records[i])) for i in first_texts}, threshold)
    equal, first_passages = _equal((i, p) for i, p in enumerate(passages) if long_enough[i])
    links += equal
    links += _similar({i: hasher.shingles(passages[i]) for i in first_passages}, threshold)
    rows, columns = zip(*links, strict=True)
    shape = (len(records), len(records))
    graph = coo_array((np.ones(len(links), np.int8), (rows, columns)), shape)
    _, cluster_of = connected_components(graph, directed=False)
    smallest: dict[int, str] = {}
    for cluster, content in zip(cluster_of.tolist(), contents, strict=True):
        smallest[cluster] = min(content, smallest.get(cluster, content))
    return [smallest[cluster] for cluster in cluster_of.tolist()]


def without_near_duplicates(
    records: Sequence[InstructionRecord], threshold: float
) -> list[InstructionRecord]:
    """Returns the first of every set of records that say nearly the same, in their order.

    Records of one subject, or about one passage, are kept unless they say the same of it.

    Args:
        records: the records.
        threshold: Jaccard similarity from which two texts are near-duplicates, in (0, 1].
    """
    texts = [replace(record, subject=None) for record in records]
    clusters = cluster_records(texts, threshold=threshold, passage_words=sys.maxsize)
    first: dict[str, InstructionRecord] = {}
    for cluster, record in zip(clusters, records, strict=True):
        first.setdefault(cluster, record)
    return list(first.values())


def _whole_text(record: InstructionRecord) -> str:
    if record.chat is not None:
        return record.chat.spoken
    return f"{record.instruction}\n{record.context}\n{record.response}"


class _ShingleHasher:
    """Hashes runs of words, each distinct word once."""

    def __init__(self, shingle_words: int) -> None:
        self._length = shingle_words
        self._hash_of_word: dict[str, int] = {}

    def shingles(self, text: str) -> np.ndarray:
        """Sorted distinct 32-bit hashes of the text's shingles; a shorter text is one shingle."""
        words = _WORD.findall(text.casefold())
        hashes = np.fromiter((self._word(word) for word in words), np.uint64, len(words))
        length = min(self._length, len(words))
        total = np.zeros(len(words) - length + 1 if words else 0, np.uint64)
        for start in range(length):
            total = (total ^ hashes[start : start + len(total)]) * _MULTIPLIER
        return np.unique(total >> np.uint64(32))

    def _word(self, word: str) -> int:
        if word not in self._hash_of_word:
            digest = hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest()
            self._hash_of_word[word] = int.from_bytes(digest, "big")
        return self._hash_of_word[word]


def similar_pairs(shingles: Sequence[np.ndarray], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of sets whose exact Jaccard similarity reaches the threshold; no pair of empty sets."""
    from datasketch import MinHash, MinHashLSH

    weights = (1 - _MISSED_PAIR_WEIGHT, _MISSED_PAIR_WEIGHT)
    drawn = random.getstate()  # an index draws itself a name, which is not to be seen outside
    index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, weights=weights)
    random.setstate(drawn)
    signatures = MinHash.generator(shingles, num_perm=_PERMUTATIONS, hashfunc=int)
    for position, signature in enumerate(signatures):
        if not len(shingles[position]):
            continue
        for other in sorted(index.query(signature)):
            if jaccard(shingles[position], shingles[other]) >= threshold:
                yield other, position
        index.insert(position, signature, check_duplication=False)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the union of two sorted sets that both hold."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def _equal(
    keyed_positions: Iterable[tuple[int, Hashable]],
) -> tuple[list[tuple[int, int]], list[int]]:
    """Links of each position to the first of its key, and the first position of each key."""
    first: dict[Hashable, int] = {}
    links = [(first.setdefault(key, position), position) for position, key in keyed_positions]
    return links, list(first.values())


def _similar(shingles: Mapping[int, np.ndarray], threshold: float) -> Iterator[tuple[int, int]]:
    """Links of positions whose shingle sets are near-duplicates."""
    positions = list(shingles)
    for a, b in similar_pairs(list(shingles.values()), threshold):
        yield positions[a], positions[b]
