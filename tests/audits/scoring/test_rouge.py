"""ROUGE-L against a naive longest common subsequence, and against rouge_score's own tokenizer."""

import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from audits.scoring.rouge import WordTokenizer, rouge_l_f1, rouge_l_f1_over_draws


def naive_f1(reference: list[str], prediction: list[str]) -> float:
    """F1 of the longest common subsequence, by recursion over all subsequences' ends."""

    def longest(i: int, j: int) -> int:
        if i == len(reference) or j == len(prediction):
            return 0
        if reference[i] == prediction[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    common = longest(0, 0)
    if common == 0:
        return 0.0
    precision, recall = common / len(prediction), common / len(reference)
    return 2 * precision * recall / (precision + recall)


def test_scores_equal_the_naive_subsequence() -> None:
    draw = random.Random(0)
    texts = [[draw.choice("abcd") for _ in range(draw.randint(1, 8))] for _ in range(60)]
    references, predictions = texts[:30], texts[30:]
    found = rouge_l_f1(
        [" ".join(text) for text in references], [" ".join(text) for text in predictions]
    )
    expected = [naive_f1(r, p) for r, p in zip(references, predictions, strict=True)]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("stem", [False, True])
def test_ascii_text_scores_as_with_the_usual_tokenizer(stem: bool) -> None:
    references = ["The quick-brown foxes' 3 jumping_cats, running!", "It's 2,000.5 (maybe)"]
    predictions = ["the Quick brown fox jumps; 3 cat run", "its 2 000 5 maybe"]
    usual = RougeScorer(["rougeL"], use_stemmer=stem)
    expected = [
        usual.score(r, p)["rougeL"].fmeasure for r, p in zip(references, predictions, strict=True)
    ]
    assert rouge_l_f1(references, predictions, stem) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Größe naïve", ["größe", "naïve"]),
        ("Привет, мир!", ["привет", "мир"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("世界 ok", ["世", "界", "ok"]),
        ("good 👍", ["good", "👍"]),
        ("e\u0301te\u0301", ["été"]),
        ("?!", []),
    ],
)
def test_words_of_any_script_survive(text: str, tokens: list[str]) -> None:
    assert WordTokenizer().tokenize(text) == tokens


@pytest.mark.parametrize("text", ["Привет, мир!", "हिन्दी", "世界", "👍", "?!", "…", "ok", "สวัสดี"])
def test_a_perfect_answer_scores_one_in_any_script(text: str) -> None:
    if text != "ok":  # what the library's own tokenizer makes of the others
        assert RougeScorer(["rougeL"]).score(text, text)["rougeL"].fmeasure == 0
    assert rouge_l_f1([text], [text]).tolist() == [1.0]
    assert rouge_l_f1([text], [""]).tolist() == [0.0]


def test_stemming_is_optional() -> None:
    assert rouge_l_f1(["running"], ["runs"]).tolist() == [0.0]
    assert rouge_l_f1(["running"], ["runs"], stem=True).tolist() == [1.0]


def test_draws_are_averaged_within_the_record() -> None:
    references = ["a b", "c d"]
    draws = [["a b", "x"], ["x", "c d"], ["a b", "x"]]
    assert rouge_l_f1_over_draws(references, draws) == pytest.approx(np.array([2 / 3, 1 / 3]))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="reference 1 is blank"):
        rouge_l_f1(["a", " \n"], ["a", "b"])
    with pytest.raises(ValueError, match="2 references but 1"):
        rouge_l_f1(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="at least one draw"):
        rouge_l_f1_over_draws(["a"], [])
