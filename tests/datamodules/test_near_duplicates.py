"""Clusters of near-duplicates against an exhaustive comparison."""

import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.near_duplicates import (
    cluster_records,
    jaccard,
    similar_pairs,
    without_near_duplicates,
)
from datamodules.records import InstructionRecord, read_records, records_from_rows

DOLLY = Path(__file__).resolve().parents[2].parent / "shared/data/dolly/databricks-dolly-12k.jsonl"


def record(instruction: str, context: str = "", response: str = "yes") -> InstructionRecord:
    return InstructionRecord("id", instruction, context, response, "open_qa", "here:1")


def groups(records: list[InstructionRecord], **options: float) -> set[frozenset[int]]:
    names = cluster_records(records, **options)
    return {frozenset(i for i, other in enumerate(names) if other == name) for name in set(names)}


def naive_groups(records: list[InstructionRecord], threshold: float) -> set[frozenset[int]]:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.casefold())
        return {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}

    texts = [shingles(f"{r.instruction}\n{r.context}\n{r.response}") for r in records]
    merged = [{i} for i in range(len(records))]
    for i in range(len(records)):
        for j in range(i):
            if len(texts[i] & texts[j]) >= threshold * len(texts[i] | texts[j]):
                union = merged[i] | merged[j]
                for k in union:
                    merged[k] = union
    return {frozenset(group) for group in merged}


def test_clusters_equal_an_exhaustive_comparison():
    draw = random.Random(3)
    words = [f"w{i}" for i in range(400)]
    records = []
    for _ in range(40):
        text = draw.choices(words, k=60)
        for _ in range(draw.randint(1, 4)):
            copy = [draw.choice(words) if draw.random() < 0.02 else word for word in text]
            records.append(record(" ".join(copy)))
    assert groups(records, threshold=0.6) == naive_groups(records, 0.6)


def test_exact_jaccard_decides():
    a = np.array([1, 2, 3, 4], np.uint64)
    b = np.array([3, 4, 5, 6, 7], np.uint64)
    assert jaccard(a, b) == pytest.approx(2 / 7)
    assert list(similar_pairs([a, b, a], 0.7)) == [(0, 2)]
    pairs = [
        np.arange(200 * k + start, 200 * k + start + 100) for k in range(50) for start in (0, 20)
    ]
    assert jaccard(pairs[0], pairs[1]) == pytest.approx(80 / 120)
    assert list(similar_pairs(pairs, 0.7)) == [], "hashing proposes such pairs, the sets decide"
    assert len(list(similar_pairs(pairs, 0.6))) >= 45, "hashing may miss a pair, rarely"
    empty = np.array([], np.uint64)
    assert list(similar_pairs([empty, empty], 0.7)) == []


def test_white_space_and_unicode_form_do_not_separate_equal_content():
    assert len(set(cluster_records([record("Cafe\u0301  now"), record("Café now")]))) == 1


def test_a_shared_passage_joins_different_questions():
    passage = "The bridge was opened in 1912 by the mayor and closed in 1987."
    short = "red, green, blue"
    records = [
        record("When was it opened?", passage, "In 1912."),
        record("Who opened the bridge in the town then?", passage + "\n", "The mayor did it."),
        record("Which of these is a colour?", short, "red"),
        record("Sort these by wavelength please now.", short, "blue, green, red"),
    ]
    assert groups(records) == {frozenset({0, 1}), frozenset({2}), frozenset({3})}
    edited = passage.replace("mayor", "queen") + " " + " ".join(f"word{i}" for i in range(60))
    nearly = edited.replace("queen", "king")
    distinct = [record("Short one?", edited, "a b c"), record("Another thing asked", nearly, "d")]
    assert groups(distinct) == {frozenset({0, 1})}


def test_links_are_transitive_across_kinds():
    words = " ".join(f"x{i}" for i in range(40))
    passage = "one two three four five six seven eight nine"
    records = [
        record(words, "", "answer"),
        record(words, passage, "answer"),
        record("entirely other question", passage, "and other answer"),
    ]
    assert groups(records) == {frozenset({0, 1, 2})}


def test_clusters_do_not_depend_on_order_and_are_named_by_content():
    records = [record(f"question {i // 2}", "", f"answer {i // 2} " * 5) for i in range(20)]
    names = cluster_records(records)
    assert cluster_records(records[::-1]) == names[::-1]
    assert names[0] == min(records[0].content, records[1].content)
    assert len(set(names)) == 10


def test_records_without_words_are_not_all_one_cluster():
    assert len(set(cluster_records([record("?", "", "!"), record("!!", "", "..")]))) == 2


def test_a_threshold_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        cluster_records([record("a")], threshold=0.0)


@pytest.mark.slow
@pytest.mark.skipif(not DOLLY.is_file(), reason=f"needs {DOLLY}")
def test_dolly_has_few_and_small_clusters():
    sizes = Counter(cluster_records(read_records(str(DOLLY)))).values()
    assert 150 < sum(size > 1 for size in sizes) < 250
    assert max(sizes) < 15


def test_a_subject_joins_what_is_alike_to_any_of_its_records():
    whole = [f"{word} speaks of its own matter at some length" for word in ("a", "b", "c", "d")]
    rows = [(text, subject) for text, subject in zip(whole, (7, 8, 7, None), strict=True)]
    rows += [(whole[2].upper(), "9"), ("x y z", "9")]
    texts = [("f", {"text": f"{text} {text[0]}", "subject": name}) for text, name in rows]
    assert groups(records_from_rows(texts, "f")) == {
        frozenset({0, 2, 4, 5}),
        frozenset({1}),
        frozenset({3}),
    }


def test_a_system_prompt_that_all_chats_share_joins_none():
    system = {"role": "system", "content": " ".join(f"w{i}" for i in range(80))}
    chats = [
        {
            "messages": [
                system,
                {"role": "user", "content": f"{name} q {name} r"},
                {"role": "assistant", "content": f"{name} s {name} t"},
            ]
        }
        for name in ("a", "b", "a")
    ]
    records = records_from_rows([("f", chat) for chat in chats], "f")
    assert groups(records) == {frozenset({0, 2}), frozenset({1})}


def test_one_of_every_set_of_near_duplicates_is_kept():
    """Those of one subject or passage are no duplicates for that."""
    passage = "a long passage about the harbour that two questions are asked about here"
    said = "list the seven oldest bridges of the town and say who built each of them"
    records = [
        record(said, response="one"),
        record("who runs it", passage),
        record("when did it open", passage),
        record(said, response="two"),
        replace(record("my name is Ada and I was born in May"), subject="ada"),
        replace(record("I moved twice since then and like the sea"), subject="ada"),
        record(said, response="one"),
    ]
    expected = [records[place] for place in (0, 1, 2, 4, 5)]
    assert without_near_duplicates(records, 0.7) == expected
    assert len(set(cluster_records(records))) == 3
