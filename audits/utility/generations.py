"""Figures of generated responses, over all tasks and per task: ROUGE-L, variety, length."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.rows import told_tasks
from audits.scoring.rouge import rouge_l_f1_over_draws
from audits.statistics.means import UtilityEstimate, ratio_interval, rows_of, share_interval
from audits.utility.diversity import corpus_distinct_n, distinct_n

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
