"""Spans rewritten by tiny masked language models of two kinds of tokenizer."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from audits.membership.texts import SpanInfill
from audits.membership.texts.masked_lm import MaskedLM, load_masked_lm
from common.errors import UserError
from datamodules.tokenizer import train_tokenizer
from tests.audits.membership.texts.conftest import MaterialOf, awkward_records, record

CORPUS = [f"the cat {i} sat on the mat" for i in range(300)]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
}
CPU = torch.device("cpu")


def wordpiece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(CORPUS, 300)
    tokenizer.add_special_tokens(
        {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>", "pad_token": "<pad>"}
    )
    return tokenizer


@pytest.fixture(params=["bert", "roberta"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Folder of a random masked language model with a window of 22 tokens."""
    torch.manual_seed(0)
    if request.param == "bert":
        tokenizer = wordpiece()
        model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SIZES))
    else:
        tokenizer = byte_level()
        pad = tokenizer.pad_token_id
        model = RobertaForMaskedLM(
            RobertaConfig(vocab_size=len(tokenizer) + 3, **SIZES | {"pad_token_id": 1})
        )
        assert pad != 1
    folder = tmp_path / request.param
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def masked_lm(source: str) -> MaskedLM:
    return load_masked_lm(source, CPU)


def test_only_the_chosen_spans_change(source: str, masked_lm: MaskedLM) -> None:
    one = record("long", " ".join(f"cat {i} sat" for i in range(20)))
    before = one.response.split()
    compared = 0
    for copy in range(20):
        text = SpanInfill(copy, source, 0.2, 3).texts([one], 0, masked_lm)[0]
        after = text.split(" ")
        if len(after) == len(before):  # else a token was drawn that holds a space
            changed = {place // 3 for place in range(60) if after[place] != before[place]}
            assert 1 <= len(changed) <= 4
            compared += 1
    assert compared > 0


def test_a_blank_gets_another_token_and_nothing_else_changes(masked_lm: MaskedLM) -> None:
    ids, _ = masked_lm.tokens(["the cat 1 sat on the mat " * 12])[0]
    blanks = [0, 5, 6, 7, 40, len(ids) - 1]
    filled = masked_lm.fill([ids], [blanks], [7])[0]
    assert [place for place, (a, b) in enumerate(zip(ids, filled, strict=True)) if a != b] == blanks
    special = set(masked_lm.tokenizer.all_special_ids)
    assert not special & {filled[place] for place in blanks}
    assert max(filled) < len(masked_lm.tokenizer)
    assert masked_lm.fill([ids], [[]], [7]) == [ids]


def test_draws_follow_the_models_distribution(masked_lm: MaskedLM) -> None:
    ids, _ = masked_lm.tokens(["the cat sat"])[0]
    tokenizer, model = masked_lm.tokenizer, masked_lm.model
    row = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
    row[2] = tokenizer.mask_token_id
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row])).logits[0, 2].double()
    ruled_out = [*tokenizer.all_special_ids, ids[1], *range(len(tokenizer), len(logits))]
    logits[ruled_out] = -torch.inf
    draws = [one[1] for one in masked_lm.fill([ids] * 4000, [[1]] * 4000, range(4000))]
    counts = torch.bincount(torch.tensor(draws), minlength=len(logits)).double()
    expected = 4000 * logits.softmax(0)
    keep = expected > 0
    assert counts[~keep].sum() == 0
    chi2 = ((counts - expected).square()[keep] / expected[keep]).sum()
    freedom = int(keep.sum()) - 1
    assert abs(float(chi2) - freedom) < 5 * (2 * freedom) ** 0.5


def test_copies_do_not_depend_on_what_is_filled_beside_them(
    source: str, masked_lm: MaskedLM
) -> None:
    records = awkward_records()
    variant = SpanInfill(0, source, 0.3, 2)
    together = variant.texts(records, 0, masked_lm)
    assert together == [variant.texts([one], 0, masked_lm)[0] for one in records]
    assert together == variant.texts(records[::-1], 0, masked_lm)[::-1]
    assert together != SpanInfill(1, source, 0.3, 2).texts(records, 0, masked_lm)
    assert together != variant.texts(records, 1, masked_lm)
    assert not any("##" in text for text in together)


def test_no_record_loses_its_prompt_or_all_its_tokens(source: str, material_of: MaterialOf) -> None:
    records = awkward_records()
    found = SpanInfill(0, source, 1.0, 2).encode(records, material_of())
    assert all(one.response_ids for one in found)
    assert [one.prompt_ids for one in found] == [
        one.prompt_ids for one in material_of().encoder.encode_all(records)
    ]


def test_what_is_no_masked_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no tokenizer folder"):
        load_masked_lm(str(tmp_path / "missing"), CPU)
    train_tokenizer(CORPUS, 300).save_pretrained(tmp_path / "causal")
    with pytest.raises(UserError, match="has no mask token"):
        load_masked_lm(str(tmp_path / "causal"), CPU)
    byte_level().save_pretrained(tmp_path / "alone")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_masked_lm(str(tmp_path / "alone"), CPU)
