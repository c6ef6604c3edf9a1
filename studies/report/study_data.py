"""What a report shows, read from a study's folder: runs with labels, final results, scores."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from audits.mechanism import Mechanism, note
from audits.membership.epsilon_rows import BOUND_PARAMS
from audits.results import read_table
from studies.compare.comparisons import AttackScores, attack_scores
from studies.compare.disagreement import STUDY_RUN
from studies.compare.primary_attack import Attack, primary_attack
from studies.compare.shown_techniques import as_they_ran, mechanisms_of
from studies.plan.cells import Cell, Plan
from studies.run.cell_state import CellFiles

__all__ = [
    "ATTACK_NAMES",
    "BLIND",
    "METRIC_NAMES",
    "ROLE_NAMES",
    "StudyData",
    "read_study_data",
]

# A baseline: it has never seen the model, so it stands beside the attacks and is none.
BLIND = "blind"
ATTACK_NAMES = {
    "loss": "Loss",
    "zlib": "Zlib",
    "min_k": "Min-K%",
    "min_k_plus_plus": "Min-K%++",
    "reference": "Reference",
    "lowercase": "Lowercase",
    "neighbour": "Neighbour",
    "recall": "ReCaLL",
    "con_recall": "Con-ReCall",
    "dc_pdd": "DC-PDD",
    "pac": "PAC",
    "grad_norm": "Gradient norm",
    "mope": "MoPe",
    "samia": "SaMIA",
    "rmia": "RMIA",
    "lira": "LiRA",
    "inherited": "Inherited (difference of losses)",
    "control_reference": "Control as reference",
    "as_released_zlib": "Zlib, as released",
    "as_released_min_k": "Min-K%, as released",
    "as_released_min_k_plus_plus": "Min-K%++, as released",
    BLIND: "Blind baseline (text alone)",
    "any_attack": "Any attack",
    "balance": "Balance of the sides",
}
METRIC_NAMES = {
    "auroc": "AUROC",
    "tpr_at_fpr_0.1": "TPR at 10% FPR",
    "tpr_at_fpr_0.01": "TPR at 1% FPR",
    "tpr_at_fpr_0.001": "TPR at 0.1% FPR",
    "balanced_accuracy": "Balanced accuracy",
    "max_t": "Max-T over attacks",
    "rouge_l_f1": "ROUGE-L F1",
    "perplexity": "Perplexity",
    "auroc_difference": "AUROC difference",
    "swap_estimate": "Swap estimate",
    "auroc_at_equal_lengths": "AUROC at equal lengths",
    "swap_estimate_at_equal_lengths": "Swap estimate at equal lengths",
    "token_accuracy_gap_at_equal_lengths": "Gap in token accuracy at equal lengths",
    "token_accuracy_gap_excess_at_equal_lengths": "Excess of the gap at equal lengths",
}
ROLE_NAMES = {
    "base": "Base",
    "teacher": "Teacher",
    "counterfactual_teacher": "Counterfactual teacher",
    "init": "Initial student",
    "control": "Control",
    "student": "Student",
    "counterfactual": "Counterfactual student",
    "reference": "Reference",
}


@dataclass(frozen=True)
class StudyData:
    """Everything a page is made of.

    Attributes:
        plan: The plan that the last run used, techniques named by what ran.
        cells: Its finished cells: teachers, students, controls, counterfactuals.
        states: State of every cell, by id.
        labels: Label of each run on the page, by alias.
        kinds: The same without replicate and seed: runs that repeat each other share it.
        plain_labels: Role and technique alone, whatever the size.
        results: Rows of each finished run's last step, with `label`, `label_b` and `attack`.
        history: The same at every step.
        technique_rows: Results about techniques, which belong to no run.
        scores: Scores at the last step: alias -> (attack, params) -> scores.
        facts: Content of each finished cell's state file, by alias.
        mechanisms: What of its technique's mechanism ran, by alias, where results say it.
        configured: Label of each run's technique in the study file, by alias.
    """

    plan: Plan
    cells: tuple[Cell, ...]
    states: dict[str, str]
    labels: dict[str, str]
    kinds: dict[str, str]
    plain_labels: dict[str, str]
    results: pd.DataFrame
    history: pd.DataFrame
    technique_rows: pd.DataFrame
    scores: dict[str, dict[Attack, AttackScores]]
    facts: dict[str, dict[str, object]]
    mechanisms: dict[str, Mechanism] = field(default_factory=dict)
    configured: dict[str, str | None] = field(default_factory=dict)

    @property
    def replicated(self) -> bool:
        """Whether runs repeat each other, with other splits or other seeds."""
        return len(set(self.kinds.values())) < len(set(self.labels.values()))

    @property
    def notes(self) -> dict[str, str]:
        """What ran, by every name that stands for a run, for its repetitions or its technique."""
        named: dict[str, list[Mechanism]] = {}
        for cell in self.cells:
            if cell.alias in self.mechanisms:
                alias = cell.alias
                names = {self.labels[alias], self.kinds[alias], self.plain_labels[alias]}
                for name in {*names, str(cell.technique)}:
                    named.setdefault(name, []).append(self.mechanisms[alias])
        return {name: text for name, runs in named.items() if (text := note(runs))}

    def rows(self, **values: object) -> pd.DataFrame:
        """Returns the results whose columns have these values; None asks for null."""
        found = self.results
        for column, value in values.items():
            wanted = found[column].isna() if value is None else found[column] == value
            found = found[wanted]
        return found

    @cached_property
    def primary(self) -> Attack:
        """The attack that claims and headline read."""
        return primary_attack(self.history)

    def of_primary(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Returns those of the rows that are the primary attack's."""
        return rows[(rows["name"] == self.primary[0]) & (rows["params"] == self.primary[1])]

    def auroc_rows(self) -> pd.DataFrame:
        """Returns the attacks' whole-model AUROC of private against held-out, tasks together."""
        rows = self._whole_private
        return rows[(rows["metric"] == "auroc") & (rows["name"] != BLIND)]

    def blind_rows(self) -> pd.DataFrame:
        """Returns what the text alone tells: AUROC per run, and `needed`, records a side."""
        rows = self._whole_private
        rows = rows[rows["name"] == BLIND]
        needed = rows[rows["metric"] == "records_needed"].set_index("run")["value"]
        rows = rows[rows["metric"] == "auroc"]
        return rows.assign(needed=rows["run"].map(needed))

    @property
    def _whole_private(self) -> pd.DataFrame:
        return self.rows(
            audit="membership", population="private", task=None, block=None, run_b=None
        )


def read_study_data(plan: Plan, out: Path) -> StudyData:
    """Reads a study's merged tables and the states of its cells.

    Raises:
        UserError: The tables are missing.
    """
    every = read_table(out, "results").to_pandas()
    mechanisms = mechanisms_of(every)
    configured = {cell.alias: cell.technique for cell in plan.cells}
    plan = as_they_ran(plan, mechanisms)
    states = {cell.id: CellFiles(cell).state() for cell in plan.cells}
    done = [cell for cell in plan.cells if states[cell.id] == "done"]
    cells = tuple(sorted(done, key=lambda cell: _SHOWN_ORDER.index(cell.role)))
    labels = _labels(plan)
    history = every[every["run"].isin([cell.alias for cell in cells])].copy()
    order = {cell.alias: index for index, cell in enumerate(cells)}
    history["order"] = history["run"].map(order)
    history["technique"] = history["run"].map({cell.alias: cell.technique for cell in cells})
    history["label"] = history["run"].map(labels)
    history["label_b"] = history["run_b"].map(labels)
    history["attack"] = _attack_labels(history)
    history = history.sort_values("order", kind="stable")
    last = history.groupby(["run", "audit"])["step"].transform("max")
    return StudyData(
        plan=plan,
        cells=cells,
        states=dict(states),
        labels=labels,
        kinds=_labels(plan, repeats=False),
        plain_labels=_labels(plan, plain=True),
        results=history[history["step"] == last],
        history=history,
        technique_rows=every[every["run"] == STUDY_RUN],
        scores=attack_scores(read_table(out, "scores").to_pandas()),
        facts={cell.alias: CellFiles(cell).read() for cell in cells},
        mechanisms=mechanisms,
        configured=configured,
    )


def _labels(plan: Plan, *, repeats: bool = True, plain: bool = False) -> dict[str, str]:
    several = {
        name: len({getattr(cell, name) for cell in plan.cells if cell.role != "teacher"}) > 1
        for name in ("family", "replicate", "repeat")
    }
    several["size"] = len({cell.size for cell in plan.cells if cell.stage in _SIZED}) > 1
    several["seed"] = len({cell.student_seed for cell in plan.cells if cell.stage in _SIZED}) > 1
    labels = {}
    for cell in plan.cells:
        name = ROLE_NAMES[cell.role] if cell.stage in _BUILT_IN else cell.stage
        sized = cell.stage in _SIZED
        parts = [
            name,
            cell.technique,
            cell.size if several["size"] and sized else None,
            cell.family if several["family"] and not sized else None,
            f"r{cell.replicate}" if several["replicate"] and repeats else None,
            f"repeat {cell.repeat}" if several["repeat"] and repeats else None,
            f"s{cell.student_seed}" if several["seed"] and sized and repeats else None,
        ]
        parts = parts[:2] if plain else parts
        labels[cell.alias] = " · ".join(part for part in parts if part)
    return labels


_SHOWN_ORDER = (
    "teacher",
    "student",
    "control",
    "init",
    "base",
    "reference",
    "counterfactual_teacher",
    "counterfactual",
)
_SIZED = ("init", "control", "student", "counterfactual")
_BUILT_IN = ("teacher", "counterfactual_teacher", *_SIZED)


def _own_params(text: str) -> str:
    """Returns an attack's parameters in words, without those that only a bound on epsilon has."""
    own = {key: one for key, one in json.loads(text).items() if key not in BOUND_PARAMS}
    return ", ".join(f"{key} {value}" for key, value in own.items())


def _attack_labels(results: pd.DataFrame) -> pd.Series:
    """Returns the attack's name, with its parameters where one attack was run with several."""
    plain = results["name"].map(lambda name: ATTACK_NAMES.get(name, name))
    detailed = results["params"].map(_own_params)
    variants = detailed.groupby(results["name"]).transform("nunique")
    return plain.where(variants == 1, plain + " (" + detailed + ")")
