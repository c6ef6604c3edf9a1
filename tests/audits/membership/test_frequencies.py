"""Token frequencies against counting by hand."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from audits.membership.frequencies import TokenFrequencies, load_frequencies, save_frequencies
from common.errors import UserError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(f"the cat {i} sat on the mat" for i in range(100)))
    return path


def naive(texts: list[str], tokenizer: PreTrainedTokenizerFast, blocks: int) -> list[float]:
    ids: list[int] = []
    for text in texts:
        ids += [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    counts = Counter(ids[: blocks * 512])
    total = blocks * 512 + len(tokenizer)
    return [math.log((counts[token] + 1) / total) for token in range(len(tokenizer))]


def test_frequencies_equal_counting_by_hand(
    corpus: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    texts = corpus.read_text().split("\n\n")
    found = TokenFrequencies((str(corpus),), max_blocks=None).measure(tokenizer)
    n_tokens = sum(len(tokenizer(text)["input_ids"]) + 1 for text in texts)
    assert found.tolist() == pytest.approx(naive(texts, tokenizer, n_tokens // 512), abs=1e-12)
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-12)
    one = TokenFrequencies((str(corpus),), max_blocks=1).measure(tokenizer)
    assert one.tolist() == pytest.approx(naive(texts, tokenizer, 1), abs=1e-12)


def test_builtin_text_is_counted_once_per_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    request = TokenFrequencies(max_blocks=2)
    assert request.measure(tokenizer) is TokenFrequencies(max_blocks=2).measure(tokenizer)
    assert request.measure(tokenizer).isfinite().all()


def test_frequencies_come_back_from_disk(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    values = TokenFrequencies(max_blocks=2).measure(tokenizer)
    save_frequencies(values, tmp_path / "frequencies.parquet")
    assert torch.equal(load_frequencies(tmp_path / "frequencies.parquet"), values)


def test_requests_are_told_apart() -> None:
    assert TokenFrequencies() == TokenFrequencies()
    assert TokenFrequencies().file_name != TokenFrequencies(max_blocks=2).file_name
    assert TokenFrequencies().passes == 0


def test_a_missing_corpus_is_named(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="nowhere.txt"):
        TokenFrequencies(("nowhere.txt",)).measure(tokenizer)
