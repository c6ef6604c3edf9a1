"""How varied and how long generated responses are: a collapsed student repeats itself."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from audits.statistics.clusters import critical_value
from audits.statistics.estimates import tail_probability
from audits.statistics.means import UtilityEstimate


def distinct_n(responses: Sequence[Sequence[Hashable]], n: int) -> NDArray[np.float64]:
    """Return each response's share of distinct n-grams among its own, float64 [B] in [0, 1].

    Low values mean repetition inside a response (Li 2016, "A Diversity-Promoting Objective
    Function", section 5, per response). A response shorter than n has no n-gram:
    nothing in it repeats, so it is worth 1.

    Args:
        responses: Token ids or words of each response, [B].
        n: Length of an n-gram, at least 1.

    Raises:
        ValueError: If n is below 1.
    """
    shares = []
    for response in responses:
        grams = _ngrams(response, n)
        shares.append(len(set(grams)) / len(grams) if grams else 1.0)
    return np.array(shares, dtype=np.float64)


def corpus_distinct_n(
    responses: Sequence[Sequence[Hashable]], n: int, level: float = 0.95
) -> UtilityEstimate:
    """Estimate the share of distinct n-grams among all n-grams of all responses (Li 2016).

    It falls as a corpus grows, so it compares only sets of equal size. The interval is a
    delete-one jackknife over responses (Efron 1982); a bootstrap would draw responses twice and so
    lower the share itself.

    Args:
        responses: Token ids or words of each response, [B].
        n: Length of an n-gram, at least 1.
        level: Coverage.

    Raises:
        ValueError: If n is below 1 or fewer than two responses have an n-gram.
    """
    grams = [_ngrams(response, n) for response in responses]
    sizes = np.array([len(own) for own in grams])
    if (sizes > 0).sum() < 2:
        raise ValueError(f"distinct-{n} needs two responses of at least {n} tokens")
    totals = Counter(gram for own in grams for gram in own)
    distinct, count = len(totals), int(sizes.sum())
    lost = [sum(totals[gram] == own for gram, own in Counter(part).items()) for part in grams]
    left_out = (distinct - np.array(lost)) / (count - sizes)
    records = len(responses)
    spread = np.square(left_out - left_out.mean()).sum()
    error = math.sqrt((records - 1) / records * spread)
    margin = critical_value(tail_probability(level), records - 1) * error
    value = distinct / count
    return UtilityEstimate(value, max(0.0, value - margin), min(1.0, value + margin), records)


def _ngrams(response: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    if n < 1:
        raise ValueError(f"n is {n}: an n-gram has at least one token")
    return [tuple(response[start : start + n]) for start in range(len(response) - n + 1)]
