"""Verbatim spans are found wherever they lie, and nothing else is."""

import numpy as np
import pytest

from audits.utility.transfer import SpanIndex
from callbacks.transfer import TransferAudit
from common.errors import UserError
from common.ranks import Ranks

DRAW = np.random.default_rng(3)


def text(n: int) -> list[int]:
    return DRAW.integers(40, size=n).tolist()


def naive(
    populations: dict[str, dict[str, list[int]]], texts: list[list[int]], tokens: int
) -> set[tuple[str, str]]:
    return {
        (name, record)
        for name, records in populations.items()
        for record, ids in records.items()
        for own in texts
        for i in range(len(ids) - tokens + 1)
        for j in range(len(own) - tokens + 1)
        if ids[i : i + tokens] == own[j : j + tokens]
    }


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_equals_a_loop(tokens: int) -> None:
    populations = {
        name: {f"{name}-{i}": text(int(DRAW.integers(0, 12))) for i in range(15)}
        for name in ("private", "never")
    }
    for _ in range(5):
        texts = [text(30), [], text(tokens - 1)]
        planted = [*text(4), *populations["private"]["private-3"], *text(4)]
        found = SpanIndex(populations, tokens).records_in([*texts, planted])
        assert found == naive(populations, [*texts, planted], tokens)


def test_a_span_of_19_is_not_one_of_20() -> None:
    private = list(range(100, 140))
    own = {"a": private, "b": private[:19], "c": private[:20]}
    index = SpanIndex({"private": own, "never": {"a": text(30)}})
    assert index.records_in([[1, *private[5:24], 2]]) == set()
    assert index.records_in([[1, *private[5:25], 2]]) == {("private", "a")}
    assert index.records_in([private]) == {("private", "a"), ("private", "c")}
    assert index.long_enough("private") == ["a", "c"]
    assert SpanIndex({}).records_in([private]) == set()


def test_equal_hashes_are_compared_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    index = SpanIndex({"private": {"a": [1, 2, 3]}}, 2)
    monkeypatch.setattr(index, "_hashes", lambda ids: np.full(len(ids) - 1, 7, dtype=np.uint64))
    index._known = np.array([7, 7], dtype=np.uint64)
    assert index.records_in([[3, 2, 1]]) == set()
    assert index.records_in([[9, 2, 3]]) == {("private", "a")}


def test_finds_survive_a_resume() -> None:
    audit, again = TransferAudit(), TransferAudit()
    audit._met = {("private", "b"), ("never", "a")}
    audit._ranks = Ranks()
    again.load_state_dict(audit.state_dict())
    assert again._met == audit._met
    with pytest.raises(UserError, match="span_tokens is 0"):
        TransferAudit(0)
