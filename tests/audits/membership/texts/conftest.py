"""Awkward records and what a text variant may draw on."""

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from audits.membership.texts import TextMaterial
from datamodules.batches import RecordEncoder
from datamodules.prompts import PromptTemplate
from datamodules.records import InstructionRecord

TEMPLATE = PromptTemplate("{instruction}\n{context}\n", "{instruction}\n")
RESPONSES = (
    "The Cat 3 sat on the mat 21",
    "a",
    "Naïve café 🙂🙃🙂 okay",
    "The mat 🙂 " * 25,
    "数字は 3.14 です。",
    "  The\n\nmat ",
    "?!",
    "On 14 the on 14 the cat",
)

MaterialOf = Callable[..., TextMaterial]


def record(name: str, response: str) -> InstructionRecord:
    """A record of the open task."""
    return InstructionRecord(name, f"the cat {name}", "", response, "open_qa", f"test:{name}")


def awkward_records(prefix: str = "r") -> list[InstructionRecord]:
    """One-word, cut, unspaced, oddly spaced and emoji responses."""
    return [record(f"{prefix}{i}", response) for i, response in enumerate(RESPONSES)]


def shot_records(side: str) -> list[InstructionRecord]:
    """Twelve records of a side of the pool, of several lengths, one of them without a response."""
    texts = [f"the cat {i} sat" + " on the mat" * (i % 4) for i in range(11)]
    return [record(f"{side}-{i}", text) for i, text in enumerate([*texts, ""])]


@pytest.fixture
def material_of(tokenizer: PreTrainedTokenizerFast) -> MaterialOf:
    """Material with some of its fields chosen by the test."""

    def build(
        seed: int = 0,
        window: int = 128,
        longest: int = 64,
        own_tokenizer: PreTrainedTokenizerFast = tokenizer,
    ) -> TextMaterial:
        encoder = RecordEncoder(own_tokenizer, TEMPLATE, max_prompt_tokens=32, max_tokens=64)
        return TextMaterial(encoder, window, seed, shot_records, lambda: longest)

    return build
