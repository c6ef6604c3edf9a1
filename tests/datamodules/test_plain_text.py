"""Plain text: packing, and an order that needs no state."""

import itertools
from pathlib import Path

import datasets
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from datamodules.errors import UserError
from datamodules.plain_text import PlainTextBlocks, read_plain_text
from datamodules.synthetic import BUILTIN, generate_documents, generate_records
from datamodules.tokenizer import train_tokenizer

WIKITEXT = Path(__file__).resolve().parents[2].parent / "shared/data/wikitext2/valid.txt"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["one two three four five six seven"] * 3, 270)


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
    corpus = read_plain_text(names, tokenizer, block_tokens=1, documents=kind)
    n = len(corpus)
    ids = [i for text in expected for i in (*tokenizer(text)["input_ids"], 0)]
    assert n == len(ids)
    assert sorted(corpus.blocks(0, n).flatten().tolist()) == sorted(ids)
    whole = read_plain_text(names, tokenizer, block_tokens=n, documents=kind)
    assert whole.blocks(0, 1).tolist() == [ids]


def test_every_pass_serves_every_block_once_in_another_order():
    corpus = PlainTextBlocks(torch.arange(10).view(10, 1), seed=1)
    drawn = torch.cat([corpus.blocks(step, 4) for step in range(10)]).flatten().tolist()
    passes = [drawn[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 4


def test_a_step_is_a_pure_function_of_its_number():
    blocks = torch.arange(14).view(7, 2).int()
    walked = PlainTextBlocks(blocks, seed=3)
    steps = [walked.blocks(step, 5) for step in range(20)]
    resumed = PlainTextBlocks(blocks, seed=3)
    for step in (17, 2, 9):
        assert torch.equal(resumed.blocks(step, 5), steps[step])
    assert steps[0].dtype == torch.int64
    other = [PlainTextBlocks(blocks, seed=4).blocks(step, 5).tolist() for step in range(4)]
    assert other != [step.tolist() for step in steps[:4]]


def test_reading_stops_at_max_blocks(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    path = tmp_path / "a.txt"
    path.write_text("one two three\n" * 2000)
    corpus = read_plain_text(str(path), tokenizer, block_tokens=8, max_blocks=5, documents="line")
    assert len(corpus) == 5


def test_hub_data_set(monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerBase):
    asked = []

    def load_dataset(name: str, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((name, split, streaming))
        return [{"text": "one two"}, {"text": "three"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    ids = [*tokenizer("one two")["input_ids"], 0, *tokenizer("three")["input_ids"], 0]
    corpus = read_plain_text("org/name", tokenizer, block_tokens=len(ids), max_blocks=1)
    assert corpus.blocks(0, 1).tolist() == [ids]
    assert asked == [("org/name", "train", True)]
    with pytest.raises(UserError, match="no column 'body'; it has text"):
        read_plain_text("org/name", tokenizer, text_field="body")


def test_faults(tmp_path: Path, tokenizer: PreTrainedTokenizerBase):
    short = tmp_path / "short.txt"
    short.write_text("one")
    with pytest.raises(UserError, match="fewer than one block of 512"):
        read_plain_text(str(short), tokenizer)
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        read_plain_text(str(tmp_path / "none.txt"), tokenizer)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"ok\n\xff")
    with pytest.raises(UserError, match=r"bad\.txt:2: byte 3"):
        read_plain_text(str(bad), tokenizer)
    with pytest.raises(UserError, match="must be at least 1"):
        read_plain_text(str(short), tokenizer, block_tokens=0)
    with pytest.raises(ValueError, match="blocks must be"):
        PlainTextBlocks(torch.empty(0, 4))


@pytest.mark.skipif(not WIKITEXT.is_file(), reason=f"needs {WIKITEXT}")
def test_wikitext_packs_without_loss(tokenizer: PreTrainedTokenizerBase):
    corpus = read_plain_text(str(WIKITEXT), tokenizer, block_tokens=512, max_blocks=50)
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
    blocks = read_plain_text(BUILTIN, tokenizer, block_tokens=16, max_blocks=5, seed=3)
    ids = [i for text in documents for i in (*tokenizer(text)["input_ids"], 0)][: 5 * 16]
    assert sorted(blocks.blocks(0, 5).flatten().tolist()) == sorted(ids)
    with pytest.raises(UserError, match="max_blocks"):
        read_plain_text(BUILTIN, tokenizer)
