"""Plain text: packing, and an order that needs no state."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from common.keys import numpy_generator
from datamodules.plain_documents import PlainDocuments
from datamodules.plain_text import PlainTextBlocks, packed_blocks, read_plain_text
from datamodules.synthetic import BUILTIN, generate_documents, generate_records
from datamodules.tokenizer import train_tokenizer

WIKITEXT = Path(__file__).resolve().parents[2].parent / "shared/data/wikitext2/valid.txt"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["one two three four five six seven"] * 3, 270)


class Blocks:
    """A corpus of numbered blocks of one token, read by a few at a time, that counts its readings.

    `window` is what `PlainTextBlocks` keeps of it.
    """

    def __init__(self, n: int | None, window: int, seed: int = 1) -> None:
        self.n, self.readings, self.read_blocks = n, 0, 0
        self.corpus = PlainTextBlocks(self.read, seed, window)

    def read(self) -> Iterator[np.ndarray]:
        self.readings += 1
        numbers = itertools.count() if self.n is None else iter(range(self.n))
        while some := list(itertools.islice(numbers, 3)):
            self.read_blocks += len(some)
            yield np.array(some, np.int32)[:, None]

    def step(self, step: int, n: int) -> list[int]:
        return self.corpus.blocks(step, n).flatten().tolist()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("blank_line", ["one\ntwo", "three", "four"]),
        ("line", ["one", "two", "three", "four"]),
        ("file", ["one\ntwo\n \n\nthree", "four"]),
    ],
)
def test_documents_and_their_ends(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, kind: str, expected: list[str]
):
    (tmp_path / "a.txt").write_text("one\ntwo\n \n\nthree\n")
    (tmp_path / "b.txt").write_text("four")
    names = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    documents = PlainDocuments(names, kind)
    corpus = read_plain_text(documents, tokenizer, block_tokens=1)
    n = corpus.distinct
    ids = [i for text in expected for i in (*tokenizer(text)["input_ids"], 0)]
    assert n == len(ids)
    assert sorted(corpus.blocks(0, n).flatten().tolist()) == sorted(ids)
    whole = read_plain_text(documents, tokenizer, block_tokens=n)
    assert whole.blocks(0, 1).tolist() == [ids]


def test_every_pass_serves_every_block_once_in_another_order():
    drawn = [one for step in range(10) for one in Blocks(10, 100).step(step, 4)]
    passes = [drawn[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 4


def test_a_step_is_a_pure_function_of_its_number():
    for n, window in ((7, 100), (7, 7), (23, 4), (24, 4), (None, 4)):
        walked = Blocks(n, window, seed=3)
        steps = [walked.step(step, 5) for step in range(20)]
        resumed = Blocks(n, window, seed=3)
        for step in (17, 2, 9, 19, 0):
            assert resumed.step(step, 5) == steps[step]
        assert Blocks(n, window, seed=4).step(0, 5) != steps[0]
    assert walked.corpus.blocks(0, 5).dtype == torch.int64


@pytest.mark.parametrize(("n", "window"), [(23, 4), (24, 4), (5, 1), (20, 20), (21, 20)])
def test_no_block_comes_twice_in_a_pass_and_a_window_is_all_that_is_held(n: int, window: int):
    source = Blocks(n, window)
    drawn = [one for step in range(3 * n) for one in source.step(step, 1)]
    passes = [drawn[i : i + n] for i in range(0, 3 * n, n)]
    for one in passes:
        assert sorted(one) == list(range(n))
        # Each window holds its own consecutive blocks.
        for start in range(0, n, window):
            assert sorted(one[start : start + window]) == [*range(start, min(start + window, n))]
    assert source.corpus.distinct == n
    # A corpus of one window is read once and for all.
    assert source.readings == (1 if n <= window else 3)
    assert n <= 5 or len({tuple(one) for one in passes}) == 3


def test_an_endless_corpus_never_repeats_and_is_read_no_further_than_asked():
    source = Blocks(None, 50)
    drawn = [one for step in range(300) for one in source.step(step, 2)]
    assert sorted(drawn) == list(range(600))
    assert source.corpus.distinct is None
    assert source.read_blocks <= 600 + 3
    assert len(source.corpus._windows.window(11)) == 50


def test_ranks_share_a_draw(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"one two {i}\n\n" for i in range(2000)))
    options = {"block_tokens": 8, "window_blocks": 16}
    ranks = [read_plain_text(PlainDocuments([str(path)]), tokenizer, **options) for _ in range(2)]
    whole = read_plain_text(PlainDocuments([str(path)]), tokenizer, **options)
    for step in range(30):
        shares = [corpus.blocks(step, 6)[rank::2] for rank, corpus in enumerate(ranks)]
        expected = whole.blocks(step, 6)
        assert torch.equal(torch.stack(shares, 1).flatten(0, 1), expected)


def test_a_short_corpus_keeps_the_order_it_always_had():
    """Runs that were begun before windows existed go on with the same blocks."""
    source = Blocks(1024, 20_000, seed=7)
    for number in range(3):
        drawn = [one for step in range(64) for one in source.step(64 * number + step, 16)]
        assert drawn == numpy_generator(7, "plain text", number).permutation(1024).tolist()


def test_files_are_read_as_they_are_needed(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one two three\n\n" * 5000 + b"\xff")
    corpus = read_plain_text(
        PlainDocuments([str(path)]), tokenizer, block_tokens=8, window_blocks=20
    )
    corpus.blocks(3, 5)
    with pytest.raises(UserError, match=r"a\.txt:10001: byte 75000 of the file"):
        corpus.blocks(2000, 5)


def test_reading_stops_at_max_blocks(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    path = tmp_path / "a.txt"
    path.write_text("one two three\n" * 2000)
    documents = PlainDocuments([str(path)], "line")
    corpus = read_plain_text(documents, tokenizer, block_tokens=8, max_blocks=5)
    assert corpus.distinct == 5
    at_once = np.concatenate(list(packed_blocks(documents, tokenizer, 8, 5)))
    assert at_once.shape == (5, 8)
    assert sorted(corpus.blocks(0, 5).tolist()) == sorted(at_once.tolist())


def test_hub_data_set(monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerBase):
    asked = []

    def load_dataset(name: str, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((name, split, streaming))
        return [{"text": "one two"}, {"text": "three"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    ids = [*tokenizer("one two")["input_ids"], 0, *tokenizer("three")["input_ids"], 0]
    corpus = read_plain_text(PlainDocuments(["org/name"]), tokenizer, block_tokens=len(ids))
    assert corpus.blocks(0, 1).tolist() == [ids]
    assert asked == [("org/name", "train", True)]
    with pytest.raises(UserError, match="no column 'body'; it has text"):
        read_plain_text(PlainDocuments(["org/name"], text_field="body"), tokenizer)


def test_faults(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    short = tmp_path / "short.txt"
    short.write_text("one")
    with pytest.raises(UserError, match="fewer than one block of 512"):
        read_plain_text(PlainDocuments([str(short)]), tokenizer)
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        read_plain_text(PlainDocuments([str(tmp_path / "none.txt")]), tokenizer)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"ok\n\xff")
    with pytest.raises(UserError, match=r"bad\.txt:2: byte 3"):
        read_plain_text(PlainDocuments([str(bad)]), tokenizer)
    for options in ({"block_tokens": 0}, {"window_blocks": 0}):
        with pytest.raises(UserError, match="give at least 1"):
            read_plain_text(PlainDocuments([str(short)]), tokenizer, **options)


@pytest.mark.skipif(not WIKITEXT.is_file(), reason=f"needs {WIKITEXT}")
def test_wikitext_packs_without_loss(tokenizer: PreTrainedTokenizerBase):
    corpus = read_plain_text(PlainDocuments([str(WIKITEXT)]), tokenizer, max_blocks=50)
    rows = corpus.blocks(0, 50)
    assert rows.shape == (50, 512)
    assert (rows == 0).any()


def test_the_builtin_text_is_endless_seeded_and_apart_from_the_records(
    tokenizer: PreTrainedTokenizerBase,
):
    documents = list(itertools.islice(generate_documents(3), 400))
    assert documents == list(itertools.islice(generate_documents(3), 400))
    assert len(set(documents)) == 400
    records = generate_records(2100, seed=3)
    contexts = {record.context for record in records if record.context}
    assert not contexts & set(documents)
    builtin = PlainDocuments([BUILTIN], seed=3)
    blocks = read_plain_text(builtin, tokenizer, block_tokens=16, max_blocks=5, seed=3)
    ids = [i for text in documents for i in (*tokenizer(text)["input_ids"], 0)][: 5 * 16]
    assert sorted(blocks.blocks(0, 5).flatten().tolist()) == sorted(ids)
    endless = read_plain_text(builtin, tokenizer, block_tokens=64, window_blocks=30)
    many = torch.cat([endless.blocks(step, 10) for step in range(20)])
    assert len(set(map(tuple, many.tolist()))) == 200
    assert endless.distinct is None
