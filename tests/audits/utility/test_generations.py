"""Figures of answers equal loops, task by task; a prompt's draws are averaged first."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from audits.utility.generations import Figure, Generations

REFERENCES = ["the cat sat on the mat", "a dog", "birds sing in the trees"]
TASKS = ["open_qa", "generation", "open_qa"]
IDS = [[[1, 2, 1, 2, 9], [3, 9], [4, 4, 4, 4]], [[5], [6, 7, 9], [1, 2, 3, 4]]]
TEXTS = [["the cat sat", "a cat", "trees"], ["mat", "dog a", "birds sing in the trees"]]


def figures(draws: int, suffix: str = "") -> dict[tuple[str, str | None], Figure]:
    found = Generations(REFERENCES, TASKS, ["a", "b", "c"], IDS[:draws], TEXTS[:draws], suffix)
    every = found.figures()
    by_name = {(one.metric, one.task): one for one in every}
    assert len(by_name) == len(every)
    return by_name


def value(figure: Figure) -> float:
    assert figure.estimate is not None
    return figure.estimate.value


@pytest.mark.parametrize("draws", [1, 2])
def test_equals_loops(draws: int) -> None:
    found = figures(draws)
    scorer = RougeScorer(["rougeL"])
    assert {task for _, task in found} == {None, "open_qa"}  # one record tells nothing of a task
    for task in (None, "open_qa"):
        rows = [row for row in range(3) if task in (None, TASKS[row])]
        pairs = [(row, draw) for row in rows for draw in range(draws)]
        rouge = [
            scorer.score(REFERENCES[row], TEXTS[draw][row])["rougeL"].fmeasure
            for row, draw in pairs
        ]
        assert value(found["rouge_l_f1", task]) == pytest.approx(np.mean(rouge))
        lengths = [len(IDS[draw][row]) for row, draw in pairs]
        assert value(found["length_tokens", task]) == pytest.approx(np.mean(lengths))
        for n in (1, 2, 4):
            shares = []
            for row, draw in pairs:
                ids = IDS[draw][row]
                grams = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
                shares.append(len(set(grams)) / len(grams) if grams else 1.0)
            assert value(found[f"distinct_{n}", task]) == pytest.approx(np.mean(shares))
        assert found["rouge_l_f1", task].n == len(rows)


def test_distinct_of_all_answers_together() -> None:
    found = figures(1)
    assert value(found["corpus_distinct_1", None]) == pytest.approx(5 / 11)
    assert value(found["corpus_distinct_4", None]) == 1.0
    alone = Generations(REFERENCES, TASKS, ["a", "b", "c"], [[[1], [2], [3]]], TEXTS[:1])
    assert all(one.estimate is None for one in alone.figures() if one.metric == "corpus_distinct_4")


def test_the_suffix_tells_ways_of_decoding_apart() -> None:
    assert {metric for metric, _ in figures(2, "_sampled")} == {
        f"{metric}_sampled" for metric, _ in figures(1)
    }
