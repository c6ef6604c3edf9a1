"""Other tokens for the same record, against the released code's own few lines."""

import dataclasses
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from common.errors import UserError
from datamodules import InstructionDataModule
from datamodules.batches import EncodingOptions, RecordEncoder, collate
from datamodules.prompts import ALPACA, PromptTemplate
from datamodules.records import InstructionRecord, read_records
from datamodules.tokenizer import train_tokenizer

RELEASED = EncodingOptions(add_bos=False, joint=True, cut="end")
TOGETHER = EncodingOptions(joint=True)


@pytest.fixture(params=["gpt2", "llama-2", pytest.param("opt", marks=pytest.mark.slow)])
def tokenizer(request: pytest.FixtureRequest, shared: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(shared / "data/tokenizers" / request.param)


@pytest.fixture(scope="module")
def dolly(shared: Path) -> list[InstructionRecord]:
    """Every twentieth record of Dolly."""
    return read_records(str(shared / "data/dolly/databricks-dolly-12k.jsonl"))[::20]


@pytest.fixture(scope="module")
def small() -> PreTrainedTokenizerBase:
    text = ALPACA.with_context + "\n\n\n the of and river\n\n city word Elbe name"
    return train_tokenizer([text] * 3, 330)


def record(response: str, context: str = "") -> InstructionRecord:
    return InstructionRecord("r1", "Name it.", context, response, "open_qa", "f:1")


def released(
    tokenizer: PreTrainedTokenizerBase, one: InstructionRecord
) -> tuple[list[int], list[int]]:
    """Prompt and response ids by the lines of `process_data_dolly.py`, window of 512."""
    prompt = ALPACA.render(one.instruction, one.context)
    prompt_tokens = tokenizer.encode(prompt, add_special_tokens=False)
    full_tokens = tokenizer.encode(prompt + one.response, add_special_tokens=False)
    response_tokens = [*full_tokens, tokenizer.eos_token_id][len(prompt_tokens) :]
    prompt_tokens = prompt_tokens[:256]
    return prompt_tokens, response_tokens[: 512 - len(prompt_tokens)]


def test_all_together_are_the_released_tokens(
    tokenizer: PreTrainedTokenizerBase, dolly: list[InstructionRecord]
) -> None:
    encoded = RecordEncoder(tokenizer, options=RELEASED).encode_all(dolly)
    for one, record_of in zip(encoded, dolly, strict=True):
        assert (list(one.prompt_ids), list(one.response_ids)) == released(tokenizer, record_of)
    cut = [one for one in encoded if one.prompt_cut]
    cue = encoded[0].prompt_ids[-2:]
    assert all(len(one.prompt_ids) == 256 for one in cut)
    assert all(one.prompt_ids[-2:] == cue for one in encoded if not one.prompt_cut)
    assert sum(one.prompt_ids[-2:] == cue for one in cut) <= len(cut) // 50
    assert 0.10 < len(cut) / len(encoded) < 0.20


def test_what_standing_together_changes(
    tokenizer: PreTrainedTokenizerBase, dolly: list[InstructionRecord]
) -> None:
    apart = RecordEncoder(tokenizer).encode_all(dolly)
    together = RecordEncoder(tokenizer, options=TOGETHER).encode_all(dolly)
    assert [one.prompt_ids for one in apart] == [one.prompt_ids for one in together]
    other = sum(
        a.response_ids[0] != b.response_ids[0] for a, b in zip(apart, together, strict=True)
    )
    share = other / len(dolly)
    # SentencePiece puts its word-start mark before a text that stands alone.
    assert share > 0.95 if "llama" in tokenizer.name_or_path else share < 0.02
    merged = [b for b in together if b.boundary_merged]
    assert len(merged) < len(dolly) / 50
    for a, b in zip(apart, together, strict=True):
        if not b.boundary_merged and not b.response_cut:
            ids = b.prompt_ids + b.response_ids[:-1]
            assert (
                tokenizer.decode(ids[len(b.prompt_ids) :]).strip()
                == tokenizer.decode(a.response_ids[:-1]).strip()
            )


def test_the_beginning_token_is_all_that_add_bos_takes_away(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    one = record("Elbe river")
    whole = RecordEncoder(tokenizer).encode(one)
    bare = RecordEncoder(tokenizer, options=EncodingOptions(add_bos=False)).encode(one)
    beginning = len(tokenizer("")["input_ids"])
    assert beginning == (0 if "gpt2" in tokenizer.name_or_path else 1)
    assert bare.prompt_ids == whole.prompt_ids[beginning:]
    assert bare.response_ids == whole.response_ids


def test_where_a_boundary_merges_the_prompt_keeps_its_tokens(
    small: PreTrainedTokenizerBase,
) -> None:
    encoder = RecordEncoder(small, options=TOGETHER)
    ids = small(ALPACA.render("Name it.", "") + "\n\nElbe")["input_ids"]
    plain, merged = encoder.encode_all([record("Elbe"), record("\n\nElbe")])
    assert not plain.boundary_merged
    assert merged.boundary_merged
    assert (
        merged.prompt_ids
        == plain.prompt_ids
        == tuple(small(ALPACA.render("Name it.", ""))["input_ids"])
    )
    # The merged token is neither prompt nor response: both sides of the mask are whole tokens.
    assert merged.response_ids == (*ids[len(plain.prompt_ids) :], small.eos_token_id)
    assert len(ids) < len(plain.prompt_ids) + len(small("\n\nElbe")["input_ids"])
    batch = collate([plain, merged], encoder.pad_id)
    assert batch.targets().tolist() == [*plain.response_ids, *merged.response_ids]
    assert encoder.encode_rewritten([record("Elbe")], ["\n\nElbe"]) == [merged]


def test_a_prompt_cut_at_its_end_needs_no_room_for_the_template(
    small: PreTrainedTokenizerBase,
) -> None:
    options = EncodingOptions(cut="end")
    encoded = RecordEncoder(small, max_prompt_tokens=9, options=options).encode(record("Elbe", "c"))
    assert encoded.prompt_ids == tuple(small(ALPACA.render("Name it.", "c"))["input_ids"][:9])
    assert encoded.prompt_cut
    assert encoded.response_ids == (*small("Elbe")["input_ids"], small.eos_token_id)


def test_options_reach_a_run_and_are_counted(tmp_path: Path) -> None:
    common = {"n_records": 210, "vocabulary": 400, "template": "alpaca"}
    data = InstructionDataModule(**common, encoding=dataclasses.replace(RELEASED, add_bos=True))
    data.setup("fit")
    assert data.encoder.options == data.encoding
    encoded = data.tokens("public", data.split("public"))
    assert not any(one.boundary_merged for one in encoded)
    with pytest.raises(UserError, match="choose content or end"):
        EncodingOptions(cut="middle")


def test_a_template_without_a_common_cue_is_refused(small: PreTrainedTokenizerBase) -> None:
    template = PromptTemplate("{instruction} {context}\n", "{instruction}:\n")
    RecordEncoder(small, template)
    with pytest.raises(ValueError, match="do not all end alike"):
        RecordEncoder(small, template, options=TOGETHER)
    assert ALPACA.cue == "\n\n### Response:\n"
