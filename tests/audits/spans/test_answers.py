"""What is counted in sampled answers equals slow counts."""

from itertools import combinations

import numpy as np
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.spans.answers import at_least_one, near_verbatim
from audits.spans.common_substring import equal_tokens, longest_common
from tests.audits.membership.signals.conftest import access_of
from tests.kdmodules.conftest import one_family


def slow_longest(answer: tuple[int, ...], text: tuple[int, ...]) -> int:
    """The textbook table of common suffixes."""
    table = np.zeros((len(answer) + 1, len(text) + 1), dtype=int)
    for i, own in enumerate(answer, start=1):
        for j, other in enumerate(text, start=1):
            table[i, j] = table[i - 1, j - 1] + 1 if own == other else 0
    return int(table.max())


def test_the_longest_common_run_equals_the_textbook_table() -> None:
    rng = np.random.default_rng(0)
    texts = [tuple(rng.integers(0, 4, size).tolist()) for size in (0, 3, 30, 50, 50)]
    answers = [tuple(rng.integers(0, 5, size).tolist()) for size in (0, 1, 12, 25, 40, 60)]
    expected = [max(slow_longest(answer, text) for text in texts) for answer in answers]
    assert longest_common(answers, texts).tolist() == expected
    assert longest_common([(1, 2, 3, 4)], [(1, 2), (3, 4)]).tolist() == [2.0]


def test_sets_are_made_equal_in_tokens() -> None:
    sets = [[(1,) * 7, (2,) * 5, (3,) * 9], [(4,) * 6, (5,) * 4]]
    first, second = equal_tokens(sets, seed=0)
    assert sum(map(len, first)) == sum(map(len, second)) == 10
    assert sorted(second) == sorted(sets[1])


def test_the_chance_of_a_hit_equals_enumeration() -> None:
    for hits in range(6):
        answers = [1] * hits + [0] * (5 - hits)
        for n in range(1, 6):
            expected = np.mean([max(chosen) for chosen in combinations(answers, n)])
            assert at_least_one([hits], 5, n)[0] == pytest.approx(expected)


@one_family
def test_near_verbatim_is_one_edit_in_twenty(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    access = access_of(family_model, tokenizer)
    true = tuple(tokenizer("the cat 3 sat on the mat 21 the cat 4 sat on the mat 28")["input_ids"])
    true = (true * 3)[:40]
    edited = [(*true[:5], *[299] * count, *true[5 + count :]) for count in (0, 2, 3, 12)]
    assert len(set(map(len, edited))) == 1
    assert near_verbatim(access, edited[:2], true) == 2
    assert near_verbatim(access, [edited[3], true[:20], ()], true) == 0
