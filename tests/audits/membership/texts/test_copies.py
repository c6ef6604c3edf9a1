"""Copies of a response: what changes, what stays, and what their randomness depends on."""

from collections import Counter

import pytest

from audits.membership.texts import Lowercased, Original, TextVariant, WordDropout, WordSwap
from audits.membership.texts.words import join_words, split_words, word_count
from datamodules.records import InstructionRecord
from tests.audits.membership.texts.conftest import (
    RESPONSES,
    MaterialOf,
    awkward_records,
    record,
)

LONG = record("long", " ".join(f"w{i}" for i in range(200)))
VARIANTS: list[TextVariant] = [Lowercased(), WordDropout(0, 0.15), WordSwap(0, 0.3)]


@pytest.mark.parametrize("text", [*RESPONSES, "", " \n", "a\x1cb c"])
def test_words_and_gaps_make_up_the_text(text: str) -> None:
    words, gaps = split_words(text)
    assert join_words(words, gaps) == text
    assert words == text.split()
    assert len(words) == word_count(text)


@pytest.mark.parametrize(("share", "dropped"), [(0.15, 30), (0.001, 1), (1.0, 199)])
def test_dropout_leaves_out_its_share_in_order(share: float, dropped: int) -> None:
    kept = WordDropout(3, share).text(LONG, seed=0).split(" ")
    assert len(kept) == 200 - dropped
    assert kept == sorted(kept, key=lambda word: int(word[1:]))
    assert set(kept) <= set(LONG.response.split())


@pytest.mark.parametrize(("share", "moved"), [(0.3, 60), (0.001, 2), (1.0, 200)])
def test_swaps_move_their_share_in_pairs(share: float, moved: int) -> None:
    words = LONG.response.split()
    swapped = WordSwap(3, share).text(LONG, seed=0).split(" ")
    places = {word: place for place, word in enumerate(swapped)}
    changed = [place for place, word in enumerate(words) if swapped[place] != word]
    assert len(changed) == moved
    assert all(swapped[places[words[place]]] == words[place] for place in changed)
    assert all(words[places[words[place]]] == swapped[place] for place in changed)


@pytest.mark.parametrize("text", RESPONSES)
def test_copies_keep_the_white_space_around_words(text: str) -> None:
    one = record("x", text)
    _, gaps = split_words(text)
    swapped, kept = WordSwap(0, 0.5).text(one, 0), WordDropout(0, 0.5).text(one, 0)
    assert split_words(swapped)[1] == gaps
    assert Counter(swapped.split()) == Counter(text.split())
    assert not Counter(split_words(kept)[1]) - Counter(gaps)
    assert kept.startswith(gaps[0])
    assert kept.endswith(gaps[-1])
    assert 1 <= word_count(kept) <= max(1, word_count(text) - 1)
    if word_count(text) > 1:
        assert kept != text


def test_draws_depend_on_seed_record_and_copy_alone() -> None:
    for make in (lambda copy: WordDropout(copy, 0.15), lambda copy: WordSwap(copy, 0.3)):
        base = make(0).text(LONG, 0)
        assert base == make(0).text(LONG, 0)
        other = InstructionRecord("other", "", "", LONG.response, LONG.task, "")
        assert (
            len({base, make(1).text(LONG, 0), make(0).text(LONG, 1), make(0).text(other, 0)}) == 4
        )


def test_every_word_is_dropped_equally_often() -> None:
    ten = record("ten", " ".join(f"w{i}" for i in range(10)))
    counts: Counter[str] = Counter()
    for copy in range(2000):
        counts.update(set(ten.response.split()) - set(WordDropout(copy, 0.2).text(ten, 0).split()))
    # 2,000 copies drop 400 of each on average, standard deviation 17.9.
    assert all(abs(count - 400) < 80 for count in counts.values())
    assert sum(counts.values()) == 4000


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_record_loses_its_prompt_or_all_its_tokens(
    variant: TextVariant, material_of: MaterialOf
) -> None:
    material, records = material_of(), awkward_records()
    found = variant.encode(records, material)
    own = Original().encode(records, material)
    assert [one.record_id for one in found] == [one.id for one in records]
    assert [one.prompt_ids for one in found] == [one.prompt_ids for one in own]
    assert all(one.response_ids for one in found)
    assert [one.response_ids for one in found] != [one.response_ids for one in own]


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_changes_no_copy(variant: TextVariant, material_of: MaterialOf) -> None:
    material, records = material_of(), awkward_records()
    assert variant.encode(records[::-1], material) == variant.encode(records, material)[::-1]


def test_lowercase_changes_case_alone(material_of: MaterialOf) -> None:
    material = material_of()
    found = Lowercased().encode([record("x", "ÅNGSTRÖM Is A Unit")], material)[0]
    text = material.encoder.tokenizer.decode(found.response_ids[:-1])
    assert text == "ångström is a unit"
    assert found.response_ids[-1] == material.encoder.eos_id


def test_labels_tell_variants_apart() -> None:
    several = [*VARIANTS, WordDropout(1, 0.15), WordSwap(1, 0.3), WordDropout(0, 0.2)]
    assert len({variant.label for variant in several}) == len(several)
