"""The published token accuracy equals a loop over a padded table, n-gram ban and all."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from audits.memorization.released import ReleasedDecoding, released_accuracies
from audits.scoring.model_access import ModelAccess
from common.errors import UserError
from datamodules.encoding import EncodedRecord
from tests.audits.memorization.slow_reference import half_learnt_records
from tests.audits.memorization.test_greedy_decoding import tiny_access
from tests.kdmodules.conftest import TINY

WIDTH = 9


def banned(given: list[int], n: int) -> set[int]:
    """Tokens that would complete an n-gram for the second time."""
    if n == 0:
        return set()
    ends = [given[i : i + n] for i in range(len(given) - n + 1)]
    return {gram[-1] for gram in ends if gram[:-1] == given[len(given) - n + 1 :]}


def naive(access: ModelAccess, record: EncodedRecord, decoding: ReleasedDecoding) -> float:
    """One record, one forward pass per token, the whole prefix each time."""
    pad, eos = access.encoder.pad_id, access.encoder.eos_id
    length = len(record.prompt_ids)
    row = [pad] * (decoding.prompt_tokens - length) + [*record.prompt_ids]
    written: list[int] = []
    while len(written) < decoding.tokens:
        with torch.no_grad():
            ids = torch.tensor([[*record.prompt_ids, *written]])
            logits = access.lm.model(ids).logits[0, -1, : access.lm.vocabulary_size]
        for token in banned([*row, *written], decoding.no_repeat_ngram):
            logits[token] = -torch.inf
        if len(written) < decoding.min_new_tokens:
            logits[eos] = -torch.inf
        written.append(int(logits.argmax()))
        if written[-1] == eos:
            written.pop()
            break
    real = [*record.response_ids] if record.response_cut else [*record.response_ids[:-1]]
    cells = 0
    for place in range(decoding.tokens):
        a = real[place] if place < len(real) else pad
        b = written[place] if place < len(written) else pad
        cells += a == b
    return cells / decoding.tokens


@pytest.mark.parametrize("family", sorted(TINY))
@pytest.mark.parametrize(
    "decoding",
    [
        ReleasedDecoding(12, WIDTH),
        ReleasedDecoding(12, WIDTH, no_repeat_ngram=2, min_new_tokens=5),
    ],
    ids=["plain", "banned"],
)
def test_equals_a_loop(
    family: str, decoding: ReleasedDecoding, tokenizer: PreTrainedTokenizerFast
) -> None:
    access = tiny_access(family, tokenizer, batch_size=5)
    records = half_learnt_records(access, 16, 14, seed=9)
    found = released_accuracies(access, records, decoding)
    assert found == pytest.approx([naive(access, record, decoding) for record in records])
    assert len(set(found)) > 2


def test_a_ban_changes_what_is_written(tokenizer: PreTrainedTokenizerFast) -> None:
    access = tiny_access("gpt2", tokenizer)
    records = half_learnt_records(access, 16, 14, seed=9)
    plain = released_accuracies(access, records, ReleasedDecoding(12, WIDTH))
    other = released_accuracies(access, records, ReleasedDecoding(12, WIDTH, no_repeat_ngram=1))
    assert plain != other


def test_silence_meets_silence(tokenizer: PreTrainedTokenizerFast) -> None:
    """A model that ends at once has 31 of 32 cells of a one-token response, by padding alone."""
    from tests.audits.memorization.test_greedy_decoding import only_end

    access = only_end(tiny_access("gpt2", tokenizer))
    eos = access.encoder.eos_id
    other = 7 if eos != 7 else 8
    record = EncodedRecord("r", "open_qa", (5, 6), (other, eos), False, False)
    assert released_accuracies(access, [record], ReleasedDecoding(32, WIDTH)) == [31 / 32]


def test_mistakes_are_named(tokenizer: PreTrainedTokenizerFast) -> None:
    access = tiny_access("gpt2", tokenizer)
    record = EncodedRecord("long", "open_qa", (5,) * 10, (6,), False, True)
    with pytest.raises(UserError, match=r"record long: .*prompt_tokens=9"):
        released_accuracies(access, [record], ReleasedDecoding(4, WIDTH))
    with pytest.raises(UserError, match="no_repeat_ngram is -1"):
        ReleasedDecoding(no_repeat_ngram=-1)
