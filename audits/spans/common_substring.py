"""The longest run of tokens that an answer shares with a set of records.

It grows with the set, which more text matches by chance, so that sets are compared at equal tokens.
"""

from bisect import bisect_left
from collections.abc import Sequence
from os.path import commonprefix

import numpy as np
from numpy.typing import NDArray

from common.keys import numpy_generator

Tokens = tuple[int, ...]


def longest_common(answers: Sequence[Tokens], records: Sequence[Tokens]) -> NDArray[np.float64]:
    """Returns the length of the longest common substring of each answer and any record, [B].

    Args:
        answers: B texts.
        records: What is searched for; no run goes from one record into the next.

    >>> longest_common([(9, 1, 2, 3), (7,)], [(1, 2), (5, 1, 2, 3, 4)]).tolist()
    [3.0, 0.0]
    """
    most = max(map(len, answers), default=0)
    suffixes = sorted(
        {text[start : start + most] for text in records for start in range(len(text))}
    )
    return np.array([_longest(answer, suffixes) for answer in answers], dtype=np.float64)


def _longest(answer: Tokens, suffixes: Sequence[Tokens]) -> int:
    """Returns the longest prefix that a suffix of the answer shares with one of sorted texts."""
    longest = 0
    for start in range(len(answer)):
        own = answer[start:]
        place = bisect_left(suffixes, own)
        # The longest common prefix is that with a neighbour in their order.
        for other in suffixes[max(0, place - 1) : place + 1]:
            longest = max(longest, len(commonprefix([own, other])))
    return longest


def equal_tokens(sets: Sequence[Sequence[Tokens]], seed: int) -> list[list[Tokens]]:
    """Returns as much of each set of texts as the smallest has: whole texts drawn, the last cut.

    Args:
        sets: Sets of texts.
        seed: Of the draw.
    """
    least = min(sum(map(len, texts)) for texts in sets)
    found = []
    for texts in sets:
        order = numpy_generator("equal-tokens", seed).permutation(len(texts))
        kept: list[Tokens] = []
        left = least
        for place in order:
            if left:
                kept.append(texts[place][:left])
                left -= len(kept[-1])
        found.append(kept)
    return found
