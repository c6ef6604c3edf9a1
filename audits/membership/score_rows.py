"""Rows of the scores table, one per record and attack."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from audits.membership.metrics import ScoredRecords
from audits.rows import ScoreRow


class ScoreRows(Collection[ScoreRow]):
    """One row of the scores table for every record and attack, made when it is asked for.

    A row is some hundred times as large as the score in it.
    """

    def __init__(self) -> None:
        self._found: list[tuple[str, Mapping[str, object], ScoredRecords]] = []

    def add(self, attack: str, params: Mapping[str, object], scored: ScoredRecords) -> None:
        """Adds the scores of an attack with its parameters on a population."""
        self._found.append((attack, params, scored))

    @property
    def scored(self) -> Sequence[tuple[str, Mapping[str, object], ScoredRecords]]:
        """Attack, parameters and scores on a population, in the order added."""
        return self._found

    def __len__(self) -> int:
        return sum(len(scored.scores) for _, _, scored in self._found)

    def __iter__(self) -> Iterator[ScoreRow]:
        for attack, params, scored in self._found:
            columns = (scored.record_ids, scored.tasks, scored.scores)
            for record, task, score in zip(*columns, strict=True):
                yield {
                    "record": record,
                    "population": scored.population,
                    "task": task or None,
                    "name": attack,
                    "params": params,
                    "score": float(score),
                }

    def __contains__(self, row: object) -> bool:
        return any(row == one for one in self)
