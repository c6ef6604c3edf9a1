"""Taking words out of a text, or putting others in, with its white space left where it is.

A word is a run of characters other than white space.
"""

import re
from collections.abc import Sequence

import numpy as np

from common.errors import UserError


def word_count(text: str) -> int:
    """Returns the number of words.

    >>> word_count("  two words ")
    2
    """
    return len(text.split())


def split_words(text: str) -> tuple[list[str], list[str]]:
    """Returns the n words and the n + 1 gaps around them.

    >>> split_words("a  b")
    (['a', 'b'], ['', '  ', ''])
    """
    parts = re.split(r"(\S+)", text)
    return parts[1::2], parts[0::2]


def join_words(words: Sequence[str], gaps: Sequence[str]) -> str:
    """Returns the text of n words and the n + 1 gaps around them."""
    behind = zip(words, gaps[1:], strict=True)
    return gaps[0] + "".join(word + gap for word, gap in behind)


def without_words(text: str, dropped: set[int]) -> str:
    """Returns the text without some words, each with the gap behind it.

    Args:
        text: A text of n words.
        dropped: Places of the words, from 0; fewer than n.

    >>> without_words("one two three", {0, 2})
    'two'
    """
    words, gaps = split_words(text)
    kept = [place for place in range(len(words)) if place not in dropped]
    inner = [gaps[place + 1] for place in kept[:-1]]
    return join_words([words[place] for place in kept], [gaps[0], *inner, gaps[-1]])


def chosen_places(
    generator: np.random.Generator, places: int, share: float, most: int
) -> np.ndarray:
    """Draws round(share * places) of so many places, at least one and at most ``most``.

    Returns:
        Distinct places in random order; none where ``most`` is 0.
    """
    count = min(max(1, round(share * places)), most)
    return generator.permutation(places)[:count]


def check_copies(attack: str, copies: int, share: float) -> None:
    """Refuses options of an attack that scores changed copies of the text.

    Raises:
        UserError: If there is no copy, or the share is outside (0, 1].
    """
    if copies < 1 or not 0 < share <= 1:
        raise UserError(
            f"attack {attack}: copies={copies} must be at least 1 and share={share} in (0, 1]"
        )
