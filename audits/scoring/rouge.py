"""ROUGE-L F1 of generated responses against references, for text in any script.

The longest common subsequence and its F1 are rouge_score's (Lin 2004, "ROUGE", section 3.1, beta
1). The tokenizer is ours: rouge_score's keeps a-z and 0-9 alone, so that a reference in another
script has no token and scores 0 whatever the model says. On ASCII text both agree.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Scripts written without spaces between words: each character is a token, as is usual for ROUGE.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
_ASCII_WORD = re.compile(r"[a-z0-9]+")


class WordTokenizer:
    """Splits text into lower-case words of letters, marks and digits; symbols such as emoji alone.

    Args:
        stem: Whether English words of more than three letters lose their endings (Porter), as in
            published ROUGE-L figures of distilled models. Off by default: Porter is English
            only, and it makes "organisation" equal to "organ".
    """

    def __init__(self, stem: bool = False) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._stemmer = DefaultTokenizer(use_stemmer=True) if stem else None

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text.

        >>> WordTokenizer().tokenize("Don't panic, naïve 世界!")
        ['don', 't', 'panic', 'naïve', '世', '界']
        """
        lowered = unicodedata.normalize("NFC", text).lower()
        words = _ASCII_WORD.findall(lowered) if lowered.isascii() else _words(lowered)
        if self._stemmer is None:
            return words
        stemmed: list[str] = []
        for word in words:
            stemmed += self._stemmer.tokenize(word) if word.isascii() else [word]
        return stemmed


class _CharacterTokenizer:
    """Every character that is not white space is a token."""

    def tokenize(self, text: str) -> list[str]:
        return list("".join(unicodedata.normalize("NFC", text).lower().split()))


def _words(text: str) -> list[str]:
    words: list[str] = []
    current = ""
    for character in text:
        category = unicodedata.category(character)
        alone = category == "So" or unicodedata.name(character, "").startswith(_UNSPACED)
        if category[0] in "LMN" and not alone:
            current += character
            continue
        words += [current] if current else []
        current = ""
        if alone:
            words.append(character)
    return words + [current] if current else words


def rouge_l_f1(
    references: Sequence[str], predictions: Sequence[str], stem: bool = False
) -> NDArray[np.float64]:
    """Return the ROUGE-L F1 of each prediction against its reference, float64 [B] in [0, 1].

    A reference without any word (punctuation only) is compared by its characters. An empty
    prediction is worth 0.

    Args:
        references: True responses, [B].
        predictions: Generated responses, [B].
        stem: Porter stemming of English words.

    Raises:
        ValueError: If lengths differ, or a reference is blank: its score is not defined.
    """
    from rouge_score.rouge_scorer import RougeScorer

    if len(references) != len(predictions):
        raise ValueError(f"{len(references)} references but {len(predictions)} predictions")
    words = WordTokenizer(stem)
    by_word = RougeScorer(["rougeL"], tokenizer=words)
    by_character = RougeScorer(["rougeL"], tokenizer=_CharacterTokenizer())
    scores = []
    for row, (reference, prediction) in enumerate(zip(references, predictions, strict=True)):
        if not reference.strip():
            raise ValueError(f"reference {row} is blank: its ROUGE-L is not defined")
        scorer = by_word if words.tokenize(reference) else by_character
        scores.append(scorer.score(reference, prediction)["rougeL"].fmeasure)
    return np.array(scores, dtype=np.float64)


def rouge_l_f1_over_draws(
    references: Sequence[str], draws: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Return each record's mean ROUGE-L F1 over several generations, float64 [B].

    The mean comes first because a record's generations are not independent records.

    Args:
        references: True responses, [B].
        draws: One list of B predictions per draw.

    Raises:
        ValueError: If there is no draw, or as in `rouge_l_f1`.
    """
    if not draws:
        raise ValueError("a mean over draws needs at least one draw")
    return np.mean([rouge_l_f1(references, draw) for draw in draws], axis=0)
