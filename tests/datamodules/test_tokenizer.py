import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from common.errors import UserError
from datamodules import tokenizer as module
from datamodules.synthetic import generate_records
from datamodules.tokenizer import (
    beginning_ids,
    load_tokenizer,
    pad_id,
    train_tokenizer,
    vocabulary_hash,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "tokenizers"
NASTY = [
    "",
    " ",
    "\n\n  two\tspaces \r\n",
    "naïve café, £40 – “quoted”",
    "e\u0301 and \u00e9",
    "👩‍👩‍👧‍👦 🇳🇴 𝔘𝔫𝔦",
    "漢字かな العربية",
    "\x00\x1f\ufeff\u200b\U0010ffff",
    "a<|endoftext|>b",
]
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"no published tokenizers in {SHARED}"
)


def corpus_texts(count: int = 300) -> list[str]:
    return [f"{r.instruction} {r.context} {r.response}" for r in generate_records(count, seed=3)]


@pytest.fixture(scope="module")
def trained() -> PreTrainedTokenizerFast:
    return train_tokenizer(corpus_texts(), 600)


def test_size_and_special_tokens(trained):
    assert len(trained) == 600
    assert sorted(trained.get_vocab().values()) == list(range(600))
    assert trained.eos_token == trained.pad_token == "<|endoftext|>"
    assert trained.eos_token_id == trained.pad_token_id == pad_id(trained)
    assert trained("").input_ids == []
    assert beginning_ids(trained) == []


def test_a_beginning_token_that_is_never_used_is_not_reported(trained):
    named = PreTrainedTokenizerFast(
        tokenizer_object=trained.backend_tokenizer, bos_token="<|endoftext|>"
    )
    assert named.bos_token_id == 0
    assert beginning_ids(named) == []


@pytest.mark.parametrize("text", NASTY)
def test_every_text_comes_back(trained, text):
    ids = trained(text).input_ids
    assert trained.decode(ids) == text
    pieces = text.split("<|endoftext|>")
    assert ids.count(trained.eos_token_id) == len(pieces) - 1


def test_bytes_are_enough_for_unseen_text():
    smallest = train_tokenizer([""], 257)
    text = "👋 Grüße"
    assert len(smallest(text).input_ids) == len(text.encode())
    assert smallest.decode(smallest(text).input_ids) == text


def test_merges_shorten_text(trained):
    text = corpus_texts()[0]
    assert len(trained(text).input_ids) < 0.6 * len(text.encode())


def test_saved_folder_loads_identically(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(str(tmp_path))):
        assert vocabulary_hash(loaded) == vocabulary_hash(trained)
        assert (loaded.eos_token_id, loaded.pad_token_id) == (trained.eos_token_id,) * 2
        assert beginning_ids(loaded) == []
        for text in [*NASTY, *corpus_texts(20)]:
            assert loaded(text).input_ids == trained(text).input_ids
            assert loaded.decode(loaded(text).input_ids) == text


def test_order_of_texts_does_not_matter(trained):
    backwards = train_tokenizer(reversed(corpus_texts()), 600)
    assert backwards.backend_tokenizer.to_str() == trained.backend_tokenizer.to_str()


@pytest.mark.slow
def test_process_and_threads_do_not_matter(trained):
    program = (
        "import json, sys; from datamodules.tokenizer import train_tokenizer;"
        "t = train_tokenizer(json.load(sys.stdin), 600);"
        "sys.stdout.write(t.backend_tokenizer.to_str())"
    )
    environment = {
        **os.environ,
        "RAYON_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "1",
    }
    result = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(corpus_texts()),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert result.stdout == trained.backend_tokenizer.to_str()


@pytest.mark.parametrize("size", [-1, 0, 256])
def test_too_small_a_vocabulary_is_refused(size):
    with pytest.raises(UserError, match=f"vocabulary_size is {size}.*257"):
        train_tokenizer(["some text"], size)


def test_too_little_text_is_refused():
    with pytest.raises(UserError, match="reach a vocabulary of 2[0-9][0-9] tokens.*=5000"):
        train_tokenizer(["a short text, a short text"], 5000)


@pytest.mark.parametrize(
    "path", ["/nowhere/at/all", "./missing", "runs/teacher/export", "~/none", ""]
)
def test_missing_folder_is_one_line(path):
    with pytest.raises(UserError, match="no tokenizer folder") as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


def test_folder_without_tokenizer_is_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{ not json")
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("there", [True, False])
def test_unreachable_hub_is_one_line(there, monkeypatch):
    asked = []

    def refuse(name, *, local_only):
        asked.append(local_only)
        raise OSError("We couldn't connect to the hub\nand say so on two lines")

    monkeypatch.setattr(module, "_load", refuse)
    monkeypatch.setattr(module, "hub_is_there", lambda: there)
    with pytest.raises(UserError, match="no tokenizer 'somebody/model'.*no network") as caught:
        load_tokenizer("somebody/model")
    assert "\n" not in str(caught.value)
    # Without a network its client would be asked for half a minute.
    assert asked == [True, not there]


def test_hash_follows_the_map_not_size_or_name(trained):
    same_size = train_tokenizer(["other words entirely " + " ".join(map(str, range(900)))], 600)
    assert len(same_size) == len(trained)
    assert vocabulary_hash(same_size) != vocabulary_hash(trained)
    assert vocabulary_hash(train_tokenizer(corpus_texts(), 600)) == vocabulary_hash(trained)


def test_hash_includes_added_tokens():
    grown = train_tokenizer(corpus_texts(), 600)
    before = vocabulary_hash(grown)
    grown.add_tokens(["<new>"])
    assert vocabulary_hash(grown) != before


def test_hash_notices_swapped_ids():
    def with_vocabulary(vocabulary):
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "a"))
        )

    assert vocabulary_hash(with_vocabulary({"a": 0, "b": 1})) != vocabulary_hash(
        with_vocabulary({"a": 1, "b": 0})
    )


def test_no_pad_and_no_end_is_refused():
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    with pytest.raises(UserError, match="neither a pad nor an end token"):
        pad_id(bare)


@needs_shared
@pytest.mark.parametrize(
    ("name", "size", "beginning", "pad"),
    [("gpt2", 50257, [], 50256), ("opt", 50265, [2], 1), ("llama-2", 32000, [1], 2)],
)
def test_published_tokenizers(name, size, beginning, pad):
    tokenizer = load_tokenizer(str(SHARED / name))
    assert len(tokenizer) == size
    assert beginning_ids(tokenizer) == beginning
    assert pad_id(tokenizer) == pad


@needs_shared
def test_published_vocabularies_differ():
    hashes = {vocabulary_hash(load_tokenizer(str(SHARED / n))) for n in ("gpt2", "opt", "llama-2")}
    assert len(hashes) == 3
