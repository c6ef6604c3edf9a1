"""Prompt templates are a data format: to the letter."""

import pytest

from datamodules.prompts import ALPACA, PromptTemplate


def test_alpaca_to_the_letter():
    assert ALPACA.render("Name {context} a river.", "") == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName {context} a river.\n\n### Response:\n"
    )
    assert ALPACA.render("Who {context}?", "Text {instruction}") == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nWho {context}?\n\n### Input:\nText {instruction}\n\n### Response:\n"
    )


def test_a_context_cut_to_nothing_keeps_its_heading():
    assert "### Input:\n\n\n### Response:\n" in ALPACA.fill("Who?", "", has_context=True)


def test_the_context_may_come_first():
    template = PromptTemplate("{context} | {instruction}", "{instruction}")
    assert template.render("q {context}", "c {instruction}") == "c {instruction} | q {context}"


@pytest.mark.parametrize(
    ("with_context", "without_context"),
    [
        ("{instruction}", "{instruction}"),
        ("{instruction} {context} {context}", "{instruction}"),
        ("{instruction} {context}", "{instruction} {context}"),
        ("{instruction} {context}", ""),
    ],
)
def test_a_template_that_loses_text_is_refused(with_context: str, without_context: str):
    with pytest.raises(ValueError, match="must hold"):
        PromptTemplate(with_context, without_context)
