"""Figures of generated responses, over all tasks and per task: ROUGE-L, variety, length.

A collapsed student repeats itself.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.rows import told_tasks
from audits.scoring.rouge import rouge_l_f1_over_draws
from audits.statistics.clusters import critical_value
from audits.statistics.estimates import tail_probability
from audits.statistics.means import UtilityEstimate, ratio_interval, rows_of, share_interval

NGRAMS = (1, 2, 4)


@dataclass(frozen=True)
class Figure:
    """One figure of the responses to the prompts of one task, or of all.

    Attributes:
        name: What is measured: rouge_l, distinct_n, corpus_distinct_n or length_tokens.
        metric: The metric's column.
        task: The task; None over all.
        estimate: The figure; None where it is not defined.
        n: Prompts behind it.
    """

    name: str
    metric: str
    task: str | None
    estimate: UtilityEstimate | None
    n: int


@dataclass(frozen=True)
class Generations:
    """What a model answered.

    Attributes:
        references: True responses, [B].
        tasks: Their tasks.
        clusters: Their near-duplicate clusters.
        ids: Token ids of each draw's B answers, eos included where it was produced.
        texts: The same as text.
        suffix: Ends every metric's name, to tell ways of decoding apart.
    """

    references: Sequence[str]
    tasks: Sequence[str]
    clusters: Sequence[Hashable]
    ids: Sequence[Sequence[Sequence[int]]]
    texts: Sequence[Sequence[str]]
    suffix: str = ""

    def figures(self) -> list[Figure]:
        """Returns every figure, over all tasks and then task by task.

        A record's draws are averaged first, because they are not independent records.
        """
        rouge = rouge_l_f1_over_draws(self.references, self.texts)
        distinct = {n: np.mean([distinct_n(draw, n) for draw in self.ids], axis=0) for n in NGRAMS}
        lengths = np.mean([[len(one) for one in draw] for draw in self.ids], axis=0)
        return [
            Figure(name, f"{metric}{self.suffix}", task, found, len(rows))
            for task in (None, *told_tasks(self.tasks))
            for rows in [self._rows(task)]
            for name, metric, found in self._of(rows, rouge, distinct, lengths)
        ]

    def _rows(self, task: str | None) -> list[int]:
        return list(range(len(self.tasks))) if task is None else rows_of(self.tasks, task)

    def _of(
        self,
        rows: list[int],
        rouge: NDArray[np.float64],
        distinct: dict[int, NDArray[np.float64]],
        lengths: NDArray[np.float64],
    ) -> Iterator[tuple[str, str, UtilityEstimate | None]]:
        clusters = [self.clusters[row] for row in rows]
        yield "rouge_l", "rouge_l_f1", share_interval(rouge[rows], clusters)
        for n, shares in distinct.items():
            yield "distinct_n", f"distinct_{n}", share_interval(shares[rows], clusters)
            yield "corpus_distinct_n", f"corpus_distinct_{n}", self._corpus_distinct(rows, n)
        # Of a mean over draws where a prompt was answered several times; eos counts where written.
        mean_length = ratio_interval(lengths[rows], np.ones(len(rows)), clusters)
        yield "length_tokens", "length_tokens", mean_length

    def _corpus_distinct(self, rows: list[int], n: int) -> UtilityEstimate | None:
        """Returns the share over the first draw's answers; None with fewer than two n-grams' worth.

        One draw, since the share falls as answers are added.
        """
        answers = [self.ids[0][row] for row in rows]
        if sum(len(answer) >= n for answer in answers) < 2:
            return None
        return corpus_distinct_n(answers, n)


def distinct_n(responses: Sequence[Sequence[Hashable]], n: int) -> NDArray[np.float64]:
    """Return each response's share of distinct n-grams among its own, float64 [B] in [0, 1].

    Low values mean repetition inside a response (Li 2016, "A Diversity-Promoting Objective
    Function", section 5, per response). A response shorter than n has no n-gram:
    nothing in it repeats, so it is worth 1.

    Args:
        responses: Token ids or words of each response, [B].
        n: Length of an n-gram, at least 1.

    Raises:
        ValueError: If n is below 1.
    """
    shares = []
    for response in responses:
        grams = _ngrams(response, n)
        shares.append(len(set(grams)) / len(grams) if grams else 1.0)
    return np.array(shares, dtype=np.float64)


def corpus_distinct_n(
    responses: Sequence[Sequence[Hashable]], n: int, level: float = 0.95
) -> UtilityEstimate:
    """Estimate the share of distinct n-grams among all n-grams of all responses (Li 2016).

    It falls as a corpus grows, so it compares only sets of equal size. The interval is a
    delete-one jackknife over responses (Efron 1982); a bootstrap would draw responses twice and so
    lower the share itself.

    Args:
        responses: Token ids or words of each response, [B].
        n: Length of an n-gram, at least 1.
        level: Coverage.

    Raises:
        ValueError: If n is below 1 or fewer than two responses have an n-gram.
    """
    grams = [_ngrams(response, n) for response in responses]
    sizes = np.array([len(own) for own in grams])
    if (sizes > 0).sum() < 2:
        raise ValueError(f"distinct-{n} needs two responses of at least {n} tokens")
    totals = Counter(gram for own in grams for gram in own)
    distinct, count = len(totals), int(sizes.sum())
    lost = [sum(totals[gram] == own for gram, own in Counter(part).items()) for part in grams]
    left_out = (distinct - np.array(lost)) / (count - sizes)
    records = len(responses)
    spread = np.square(left_out - left_out.mean()).sum()
    error = math.sqrt((records - 1) / records * spread)
    margin = critical_value(tail_probability(level), records - 1) * error
    value = distinct / count
    return UtilityEstimate(value, max(0.0, value - margin), min(1.0, value + margin), records)


def _ngrams(response: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    if n < 1:
        raise ValueError(f"n is {n}: an n-gram has at least one token")
    return [tuple(response[start : start + n]) for start in range(len(response) - n + 1)]
