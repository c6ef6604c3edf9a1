"""Spans are found in a response's tokens, whatever characters tokens part."""

import pytest
from transformers import PreTrainedTokenizerFast

from audits.spans.located import locate
from datamodules.batches import RecordEncoder
from datamodules.prompts import PromptTemplate
from datamodules.records import InstructionRecord
from datamodules.sensitive import SensitiveSpan

TEMPLATE = PromptTemplate("{instruction} {context}:", "{instruction}:")


def record(response: str, *spans: str, instruction: str = "who") -> InstructionRecord:
    sensitive = tuple(SensitiveSpan(text, "words") for text in spans)
    return InstructionRecord("r", instruction, "", response, "", "test", sensitive=sensitive)


@pytest.mark.parametrize(
    ("response", "span"),
    [
        ("the cat 3 sat on the mat 21", "the mat"),
        ("the cat 3 sat on the mat 21", "21"),
        ("the cat", "the cat"),
        ("naïve café 🙂🙃🙂 the mat", "🙃🙂"),
        ("naïve café 🙂🙃🙂 the mat", "café"),
        ("数字は 3.14 です。", "3.14"),
        ("the\nmat\n\nMüller, sat", "Müller"),
    ],
)
def test_the_tokens_are_the_fewest_that_hold_a_span(
    tokenizer: PreTrainedTokenizerFast, response: str, span: str
) -> None:
    encoder = RecordEncoder(tokenizer, TEMPLATE, max_prompt_tokens=64, max_tokens=128)
    one = record(response, span)
    encoded = encoder.encode_last([one])
    (found,) = locate(encoder, [one], encoded)
    ids = encoded[0].response_ids
    assert found.ids == ids[found.first : found.last]

    assert span in tokenizer.decode(list(ids[: found.last]))
    assert span not in tokenizer.decode(list(ids[: found.last - 1]))
    assert span in tokenizer.decode(list(ids[found.first :]))
    assert span not in tokenizer.decode(list(ids[found.first + 1 : found.last]))


def test_what_cannot_be_extracted_is_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = RecordEncoder(tokenizer, TEMPLATE, max_prompt_tokens=64, max_tokens=80)
    told = record("the cat 3", "3", "the cat", instruction="where is the cat 35")
    cut = record("the mat " * 60 + "21", "21")
    both = [told, cut]
    encoded = encoder.encode_last(both)
    assert [(one.record, one.text) for one in locate(encoder, both, encoded)] == [(0, "3")]
    everything = locate(encoder, both, encoded, told=True)
    assert [one.text for one in everything] == ["3", "the cat"]
