import hashlib
import json
import re
import string
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from datamodules.records import TASKS, content_id
from datamodules.synthetic import generate_documents, generate_record, generate_records
from datamodules.synthetic.texts import texts
from datamodules.tokenizer import train_tokenizer

CONTEXT_TASKS = {"closed_qa", "information_extraction", "summarization"}


@pytest.fixture(scope="module")
def records():
    return generate_records(6_000, seed=0)


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def shingles(record) -> frozenset[tuple[str, ...]]:
    words = words_of(f"{record.instruction} {record.context} {record.response}")
    return frozenset(tuple(words[i : i + 3]) for i in range(len(words) - 2))


def test_records_are_distinct_in_content_prompt_and_response(records):
    assert len({r.id for r in records}) == len(records)
    assert len({(r.instruction, r.context) for r in records}) == len(records)
    assert len({r.response for r in records}) > 0.999 * len(records)


def test_ids_are_content_hashes_and_origins_count(records):
    for index, record in enumerate(records[:100]):
        assert record.id == content_id(record.instruction, record.context, record.response)
        assert record.origin == f"builtin:{index}"


def test_tasks_are_balanced_in_every_prefix(records):
    for stop in (7, 700, 5_999):
        counts = Counter(record.task for record in records[:stop])
        assert set(counts) == set(TASKS)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_record_depends_on_seed_and_index_only(records):
    assert generate_records(50, seed=0) == records[:50]
    assert generate_record(4_321, seed=0) == records[4_321]
    other = generate_records(500, seed=1)
    assert not {r.id for r in other} & {r.id for r in records}


@pytest.mark.slow
def test_another_process_writes_the_same(records):
    program = (
        "from datamodules.synthetic import generate_records;"
        "print(*(r.id for r in generate_records(70, seed=0)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "77"},
        cwd=Path(__file__).resolve().parents[2],
    )
    assert result.stdout.split() == [r.id for r in records[:70]]


def test_corpus_is_what_it_always_was(records):
    """A reordered word list or wording moves every figure that was measured on this corpus."""
    corpus = [*records, *generate_records(700, seed=123_456_789)]
    assert sha256(
        text for r in corpus for text in (r.id, r.instruction, r.context, r.response, r.task)
    ) == ("59b3fce11df7c16528975321d41d381185a5dece3ae0a96e58638050abd40b6c")
    assert sha256(islice(generate_documents(3), 1_000)) == (
        "d701b63394916c206f812c0d816286f594c51a5ead2750705f83ce48210db2e7"
    )


def sha256(parts: Iterable[str]) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def test_negative_index_is_refused():
    with pytest.raises(ValueError, match="negative"):
        generate_record(-1, seed=0)


def test_texts_are_clean_sentences(records):
    for record in records:
        for text in (record.instruction, record.response):
            assert text == text.strip()
            assert text[0].isupper() or text[0].isdigit() or text[0] in '-"', text
        whole = f"{record.instruction}\n{record.context}\n{record.response}"
        assert "  " not in whole
        assert not set("{}") & set(whole), whole
        assert len(words_of(record.instruction)) >= 4
        assert len(words_of(record.response)) >= 4
        assert record.instruction[-1] in ".?", record.instruction


def test_articles_agree_with_their_noun(records):
    for record in records:
        whole = f"{record.instruction} {record.context} {record.response}"
        assert not re.search(r"\b[Aa] (?!one-)(?=[aeio])", whole), whole
        assert not re.search(r"\b[Aa]n (?!hour)(?=[^aeiouAEIOU])", whole), whole


def test_context_where_the_task_needs_one(records):
    for record in records:
        if record.task in CONTEXT_TASKS:
            assert len(words_of(record.context)) >= 15
        elif record.task != "classification":
            assert record.context == ""


def test_extracted_values_stand_in_the_passage(records):
    for record in (r for r in records if r.task == "information_extraction"):
        for entry in re.split(r"\n|; | \| ", record.response):
            value = re.split(r": | = ", entry.removeprefix("- "), maxsplit=1)[1]
            for word in words_of(value):
                if word not in {"trophy", "mg", "pounds", "from"}:
                    assert word in words_of(record.context), (value, record.context)


@pytest.mark.parametrize("file", ["documents", "open_qa", "generation", "brainstorming"])
def test_every_fact_is_told_and_every_slot_is_a_fact(file):
    for name, kind in texts(file).items():
        slots = {
            slot.removeprefix("a ").lower()
            for _, slot, _, _ in string.Formatter().parse(json.dumps(list(leaves(kind))))
            if slot
        }
        facts = {*kind["facts"], *kind.get("idea_facts", ())}
        assert slots <= facts, name
        if file == "documents":
            assert slots == facts, name


def leaves(node) -> Iterator[str]:
    """Yields every text of a data file's entry."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from leaves(child)
    if isinstance(node, str):
        yield node


def test_answers_add_nothing_to_the_passage_but_grammar(records):
    shares = []
    for record in (r for r in records if r.task in {"closed_qa", "summarization"}):
        names = re.findall(r"(?<!^)(?<!\. )\b(?:[A-Z][a-z]{3,}|[\d,]*\d)\b", record.response)
        known = f"{record.instruction} {record.context}"
        shares.append(np.mean([name in known for name in names]) if names else 1.0)
    assert np.min(shares) == 1.0


def test_open_answers_cannot_be_read_off_the_prompt(records):
    for task in ("brainstorming", "generation", "open_qa"):
        new = [
            len(set(words_of(r.response)) - set(words_of(r.instruction)))
            for r in records
            if r.task == task
        ]
        assert np.quantile(new, 0.05) >= 6


def test_responses_share_few_words_with_any_other_record(records):
    vocabulary = Counter(word for r in records for word in set(words_of(r.response)))
    rare = [sum(vocabulary[w] <= 3 for w in set(words_of(r.response))) for r in records]
    assert np.mean(np.array(rare) >= 1) > 0.7


def test_near_duplicates_are_rare(records):
    sets = [shingles(record) for record in records]
    holders: dict[tuple[str, ...], list[int]] = {}
    for index, members in enumerate(sets):
        # A pair above 0.7 must share a shingle among the rarest 30% of the smaller set's shingles
        # (prefix filtering), so that looking at those compares all such pairs.
        for shingle in members:
            holders.setdefault(shingle, []).append(index)
    duplicated = set()
    for index, members in enumerate(sets):
        rarest = sorted(members, key=lambda s: (len(holders[s]), s))
        prefix = rarest[: len(members) - int(np.ceil(0.7 * len(members))) + 1]
        for other in {j for shingle in prefix for j in holders[shingle] if j > index}:
            if len(members & sets[other]) >= 0.7 * len(members | sets[other]):
                duplicated |= {index, other}
    assert len(duplicated) < 0.01 * len(records)


def test_lengths_suit_training_on_a_cpu(records):
    sample = records[:1_400]
    texts = [f"{r.instruction}\n{r.context}\n{r.response}" for r in sample]
    tokenizer = train_tokenizer(texts, 2_000)
    responses = [len(tokenizer(r.response).input_ids) for r in sample]
    wholes = [len(tokenizer(text).input_ids) for text in texts]
    assert 28 <= np.median(responses) <= 45
    assert np.mean(np.array(wholes) < 120) > 0.9
