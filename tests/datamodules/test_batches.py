"""Tokens, truncation, masks and buckets, on trained and real tokenizers."""

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from common.errors import UserError
from datamodules.batches import (
    EncodedRecord,
    InstructionBatch,
    RecordEncoder,
    collate,
    length_buckets,
)
from datamodules.prompts import ALPACA
from datamodules.records import InstructionRecord
from datamodules.tokenizer import train_tokenizer

TOKENIZERS = Path(__file__).resolve().parents[2].parent / "shared/data/tokenizers"
FAMILIES = {"gpt2": [], "opt": [2], "llama-2": [1]}


def record(instruction: str = "Name it.", context: str = "", response: str = "Elbe river"):
    return InstructionRecord("r1", instruction, context, response, "open_qa", "f:1")


@pytest.fixture(scope="module")
def small() -> PreTrainedTokenizerBase:
    text = ALPACA.with_context + " the of and river city word number answer Elbe name ü é"
    return train_tokenizer([text] * 3, 300)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    if not TOKENIZERS.is_dir():
        pytest.skip(f"needs {TOKENIZERS}")
    return request.param


def real(name: str) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TOKENIZERS / name)


def test_an_uncut_record_is_prompt_then_response_then_eos(family: str):
    tokenizer = real(family)
    encoder = RecordEncoder(tokenizer)
    one = record(
        "Où est-ce? 🌍", "A passage\nof two lines.", "À Dresde — voilà 🎉 </s> <|endoftext|>"
    )
    encoded = encoder.encode(one)
    text = ALPACA.render(one.instruction, one.context)
    expected = tokenizer(text, split_special_tokens=True)["input_ids"]
    assert list(encoded.prompt_ids) == expected
    assert expected[: len(FAMILIES[family])] == FAMILIES[family]
    assert encoded.response_ids[-1] == tokenizer.eos_token_id
    assert encoded.response_ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.bos_token_id not in encoded.prompt_ids[1:]
    assert tokenizer.decode(encoded.response_ids[:-1]) == one.response
    assert (encoded.prompt_cut, encoded.response_cut) == (False, False)


def test_text_encoded_again_gives_the_same_ids(family: str):
    encoder = RecordEncoder(real(family), max_prompt_tokens=100, max_tokens=110)
    for response in ("Elbe", " Elbe", "two\nlines", "many words " * 30):
        one = record("Which? " * 60, "c", response)
        encoded = encoder.encode(one)
        (again,) = encoder.encode_rewritten([record("Which? " * 60, "c")], [response])
        assert again.prompt_ids == encoded.prompt_ids
        assert again.response_ids == encoded.response_ids
        assert again.response_cut == encoded.response_cut


def test_padding_id_is_the_pad_token_else_eos(family: str):
    assert RecordEncoder(real(family)).pad_id == {"gpt2": 50256, "opt": 1, "llama-2": 2}[family]


def test_a_long_context_loses_its_end_only(family: str):
    tokenizer = real(family)
    encoder = RecordEncoder(tokenizer, max_prompt_tokens=120, max_tokens=200)
    context = " ".join(f"word{i}" for i in range(300))
    encoded = encoder.encode(record("Keep this whole.", context))
    text = tokenizer.decode(encoded.prompt_ids[len(FAMILIES[family]) :])
    head, tail = ALPACA.render("Keep this whole.", "\0").split("\0")
    assert text.startswith(head)
    assert text.endswith(tail)
    kept = text[len(head) : -len(tail)]
    assert context.startswith(kept)
    assert len(kept) > 50
    assert 118 <= len(encoded.prompt_ids) <= 120
    assert encoded.prompt_cut


def test_the_instruction_goes_after_the_context_and_the_cue_stays(family: str):
    tokenizer = real(family)
    encoder = RecordEncoder(tokenizer, max_prompt_tokens=90, max_tokens=200)
    instruction = " ".join(f"word{i}" for i in range(200))
    for context, cue in (
        ("some context", "\n\n### Input:\n\n\n### Response:\n"),
        ("", "\n\n### Response:\n"),
    ):
        encoded = encoder.encode(record(instruction, context))
        text = tokenizer.decode(encoded.prompt_ids[len(FAMILIES[family]) :])
        assert text.endswith(cue)
        head = ALPACA.fill("\0", "", bool(context)).split("\0")[0]
        kept = text[len(head) : -len(cue)]
        assert text.startswith(head)
        assert instruction.startswith(kept)
        assert len(kept) > 10
        assert 88 <= len(encoded.prompt_ids) <= 90


def test_the_longest_context_that_fits_is_kept(small: PreTrainedTokenizerBase):
    limit = 130
    encoder = RecordEncoder(small, max_prompt_tokens=limit, max_tokens=200)
    draw = random.Random(0)
    for _ in range(20):
        words = draw.choices(["river", "Elbe", "x9", "é", "the of"], k=60)
        context = draw.choice(["", "\n", "\n\n"]) + " ".join(words)
        one = record("Name it.", context)
        ids = small(context)["input_ids"]
        fitting = [
            len(encoded)
            for n in range(len(ids) + 1)
            if len(
                encoded := small(ALPACA.fill("Name it.", small.decode(ids[:n]), True))["input_ids"]
            )
            <= limit
        ]
        assert len(encoder.encode(one).prompt_ids) == max(fitting)


def test_text_that_costs_less_in_place_than_by_itself_is_kept_longer(
    small: PreTrainedTokenizerBase,
):
    encoder = RecordEncoder(small, max_prompt_tokens=130)
    text = "river " * 300

    def one_id_for_forty_characters(kept: str) -> tuple[int, ...]:
        return (1,) * (len(kept) // 40)

    assert len(text) // 40 < 130
    assert len(small(text)["input_ids"]) > 130
    assert encoder._layout._longest(text, one_id_for_forty_characters) == (1,) * (len(text) // 40)


def test_a_cut_response_has_no_eos(small: PreTrainedTokenizerBase):
    one = record(context="word number city " * 3)
    prompt = len(RecordEncoder(small).encode(one).prompt_ids)
    ids = small("Elbe river")["input_ids"]
    for room in range(1, len(ids) + 3):
        encoder = RecordEncoder(small, max_prompt_tokens=prompt, max_tokens=prompt + room)
        encoded = encoder.encode(one)
        fits = room > len(ids)
        assert encoded.response_ids == tuple(ids + [0] if fits else ids[:room])
        assert encoded.response_cut is not fits
        assert len(encoded) <= prompt + room


def test_an_empty_response_has_nothing_to_score(small: PreTrainedTokenizerBase):
    encoder = RecordEncoder(small)
    assert encoder.encode(record(response="")).response_ids == ()
    assert encoder.encode_rewritten([record()], [""])[0].response_ids == ()
    assert encoder.encode_all([]) == []


def test_a_window_too_small_for_the_template_is_refused(small: PreTrainedTokenizerBase):
    needed = len(small(ALPACA.fill("", "", True))["input_ids"]) + 1
    RecordEncoder(small, max_prompt_tokens=needed)
    with pytest.raises(UserError) as caught:
        RecordEncoder(small, max_prompt_tokens=needed - 1)
    assert f"take {needed} tokens, but max_prompt_tokens is {needed - 1}" in str(caught.value)
    with pytest.raises(UserError, match=r"max_prompt_tokens \(256\) must be at least 1 and below"):
        RecordEncoder(small, max_prompt_tokens=256, max_tokens=256)


def test_a_tokenizer_without_eos_is_refused(small: PreTrainedTokenizerBase):
    backend = small.backend_tokenizer
    with pytest.raises(UserError, match="no eos token"):
        RecordEncoder(type(small)(tokenizer_object=backend, pad_token="a"))


def encoded_records() -> list[EncodedRecord]:
    return [
        EncodedRecord("a", "open_qa", (5, 6), (7, 0), False, False),
        EncodedRecord("b", "generation", (5, 0, 0), (0,), False, False),
        EncodedRecord("c", "open_qa", (9,), (), False, False),
    ]


@pytest.mark.parametrize("side", ["right", "left"])
def test_masks_come_from_lengths_where_pad_is_eos(side: str):
    batch = collate(encoded_records(), pad_id=0, padding_side=side)
    if side == "right":
        ids = [[5, 6, 7, 0], [5, 0, 0, 0], [9, 0, 0, 0]]
        attention = [[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 0, 0]]
    else:
        ids = [[5, 6, 7, 0], [5, 0, 0, 0], [0, 0, 0, 9]]
        attention = [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]]
    scored = [[False, False, True, True], [False, False, False, True], [False] * 4]
    assert batch.input_ids.tolist() == ids
    assert batch.attention_mask.tolist() == attention
    assert batch.response_mask.tolist() == scored
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.int64
    assert batch.response_mask.dtype == torch.bool
    assert (batch.record_ids, batch.tasks) == (
        ["a", "b", "c"],
        ["open_qa", "generation", "open_qa"],
    )


def test_scored_tokens_are_the_same_on_either_side():
    right, left = (collate(encoded_records(), 3, side) for side in ("right", "left"))
    assert right.targets().tolist() == left.targets().tolist() == [7, 0, 0]
    assert right.record_index().tolist() == left.record_index().tolist() == [0, 0, 1]


def test_extras_follow_the_scored_tokens_and_the_device():
    batch = collate(encoded_records(), 3)
    batch.extras = {"place": torch.arange(12.0).view(3, 4), "row": torch.tensor([10, 20, 30])}
    extras = batch.token_extras()
    assert extras["place"].tolist() == [2.0, 3.0, 7.0]
    assert extras["row"].tolist() == [10, 10, 20]
    moved = batch.to("meta")
    assert isinstance(moved, InstructionBatch)
    assert {t.device.type for t in (moved.input_ids, moved.extras["row"])} == {"meta"}
    assert moved.record_ids == batch.record_ids


def test_buckets_hold_every_record_once_within_limits():
    draw = random.Random(1)
    lengths = [draw.randint(1, 512) for _ in range(500)]
    buckets = length_buckets(lengths, batch_size=16, max_tokens=2048)
    assert sorted(i for bucket in buckets for i in bucket) == list(range(500))
    flat = [lengths[i] for bucket in buckets for i in bucket]
    assert flat == sorted(lengths, reverse=True)
    for bucket in buckets:
        assert len(bucket) <= 16
        assert len(bucket) * max(lengths[i] for i in bucket) <= 2048
    assert length_buckets([9, 9, 9], 2, max_tokens=4) == [[0], [1], [2]]
    assert length_buckets([], 2, None) == []
    with pytest.raises(ValueError, match="batch_size"):
        length_buckets([1], 0, None)
