"""The claims' endpoints, read from a study's tables: fixed before looking at any result.

Membership is the swap estimate at the last checkpoint, memorization the excess of the gap in token
accuracy, private minus held-out records, over the counterfactual student's. Both compare a student
with its counterfactual and set private against held-out records, so that the two students' skill
does not count. A difference between the two record sets does: a teacher learns the distribution of
its side as well as its records. What excludes one are the fair coins that dealt the sides.
"""

from collections.abc import Mapping

import pandas as pd

from audits.results import params_json
from studies.compare.comparisons import comparison_pairs
from studies.compare.memorization import HELD_OUT, PRIVATE
from studies.compare.primary_attack import primary_attack
from studies.compare.shift import dealt_by_coins, shift_of_splits
from studies.compare.task_rows import EQUAL_LENGTHS
from studies.plan.cells import Cell, Plan

ACCURACY_PARAMS = params_json({"tokens": 32})
GAP_PARAMS = params_json({"tokens": 32, "against": HELD_OUT})
_EXCESS = "token_accuracy_gap_excess"
_SWAP_OF_TASK = f"swap_estimate{EQUAL_LENGTHS}"


class StudyFigures:
    """What the claims read of a study.

    Args:
        plan: The plan.
        states: State of every cell, by id.
        results: The study's table of results, every step.
    """

    def __init__(self, plan: Plan, states: Mapping[str, str], results: pd.DataFrame) -> None:
        self.plan = plan
        self.states = states
        self.results = results
        self.attack = primary_attack(results)
        self._counterfactuals = {
            cell.id: other
            for cell, other in comparison_pairs(plan.cells)
            if other.role == "counterfactual"
        }
        compared = results["run_b"].notna()
        self._runs = {str(run): rows for run, rows in results[~compared].groupby("run", sort=False)}
        private = results[compared & (results["population"] == PRIVATE)]
        named = (private["name"] == self.attack[0]) & (private["params"] == self.attack[1])
        self._swaps = _by_pair(private[named & (private["metric"] == "swap_estimate")])
        self._task_swaps = private[named & (private["metric"] == _SWAP_OF_TASK)]
        of_tokens = private["params"] == ACCURACY_PARAMS
        self._excesses = _by_pair(private[of_tokens & (private["metric"] == _EXCESS)])

    @property
    def students(self) -> list[Cell]:
        """The planned students that no defence protects: the findings are about those."""
        students = (cell for cell in self.plan.cells if cell.role == "student")
        return [cell for cell in students if cell.technique and cell.defence is None]

    def compared_students(self) -> list[list[Cell]]:
        """Returns the students that differ in technique alone, one list per set of all else."""
        groups: dict[tuple[str, str, int, int], list[Cell]] = {}
        for cell in self.students:
            alike = (cell.family, cell.size, cell.replicate, cell.seed)
            groups.setdefault(alike, []).append(cell)
        return list(groups.values())

    @property
    def strata(self) -> list[tuple[str, str]]:
        """Family and size of the planned students."""
        return list(dict.fromkeys((cell.family, cell.size) for cell in self.students))

    def name(self, cell: Cell) -> str:
        """Returns a student's technique, and its size where there are several."""
        return str(cell.technique) + (f" at {cell.size}" if len(self.strata) > 1 else "")

    def pair(self, cell: Cell) -> tuple[Cell, Cell] | str:
        """Returns a finished student with its finished counterfactual, or why there is none."""
        other = self._counterfactuals.get(cell.id)
        if other is None:
            return f"{cell.alias}: has no counterfactual in this study"
        for one in (cell, other):
            if self.states[one.id] != "done":
                return f"{one.alias}: {self.states[one.id]}"
        return cell, other

    def membership(self, cell: Cell) -> float | str:
        """Returns a student's swap estimate, or why there is none."""
        return self._figure(cell, self._swaps, f"no swap estimate of the attack {self.attack[0]}")

    def tasks(self, cell: Cell) -> dict[str, float] | str:
        """Returns a student's swap estimate by task at equal numbers and lengths, or why none."""
        whole = self._figure(cell, self._swaps, f"no scores of the attack {self.attack[0]}")
        if isinstance(whole, str):
            return whole
        other = self._counterfactuals[cell.id]
        rows = self._task_swaps[self._task_swaps["run"] == cell.alias]
        rows = rows[rows["run_b"] == other.alias]
        if not len(rows):
            return f"{cell.alias}: lengths of responses by task are not in the tables"
        if rows["value"].isna().any():
            fewest = min(int(rows[side].min()) for side in ("n_members", "n_nonmembers"))
            return f"{cell.alias}: only {fewest} records a side and task have comparable lengths"
        return dict(zip(rows["task"], rows["value"], strict=True))

    def memorization(self, cell: Cell) -> float | str:
        """Returns the excess of a student's gap in token accuracy, or why there is none."""
        return self._figure(cell, self._excesses, "token accuracy was not measured")

    def rows(self, cell: Cell, metric: str, where: Mapping[str, object]) -> pd.DataFrame:
        """Returns a run's own rows of a metric, every step, that have a value.

        Args:
            cell: The run.
            metric: Which.
            where: Wanted values by column; None asks for null.
        """
        found = self._runs.get(cell.alias, self.results.iloc[:0])
        found = found[(found["metric"] == metric) & found["value"].notna()]
        for column, value in where.items():
            found = found[found[column].isna() if value is None else found[column] == value]
        return found

    def shift_excluded(self) -> bool:
        """Whether private and held-out records are known to be alike.

        Where fair coins dealt them, by that. Elsewhere by the blind baseline of every finished
        student, or by those of all replicates together where none of them found a shift.
        """
        done = {cell.alias: cell for cell in self.students if self.states[cell.id] == "done"}
        if dealt_by_coins(self.results, done):
            return True
        rows = self.results[
            self.results["run"].isin(list(done)) & (self.results["audit"] == "membership")
        ]
        rows = rows[rows["run_b"].isna() & (rows["population"] == PRIVATE)]
        if not len(rows) or rows["shifted"].eq(True).any():
            return False
        if rows["shifted"].eq(False).all():
            return True
        together = shift_of_splits(self.results, done)
        return together is not None and together.shifted is False

    def _figure(
        self, cell: Cell, figures: Mapping[tuple[str, str], float], reason: str
    ) -> float | str:
        pair = self.pair(cell)
        if isinstance(pair, str):
            return pair
        return figures.get((pair[0].alias, pair[1].alias), f"{cell.alias}: {reason}")


def _by_pair(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    rows = rows[rows["value"].notna()]
    pairs = zip(rows["run"], rows["run_b"], strict=True)
    return dict(zip(pairs, rows["value"].astype(float), strict=True))
