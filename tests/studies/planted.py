"""Tables of runs with a planted leak, as an audit of `kd-privacy fit` would write them."""

from pathlib import Path

import numpy as np

from audits.results import merge_parts, write_part
from audits.statistics import auroc, tpr_at_fpr

LEAK = {"teacher": 3.0, "counterfactual_teacher": -3.0, "student": 1.5, "counterfactual": -1.5}
TASKS = ("open_qa", "closed_qa", "summarization")
ATTACKS: dict[str, dict[str, float]] = {
    "loss": {},
    "zlib": {},
    "min_k": {"k": 0.2},
    "min_k_plus_plus": {"k": 0.2},
}
RECORDS = 90
STEP = 7

Row = dict[str, object]


def write_planted(run_dir: Path, name: str, role: str, seed: int) -> None:
    """Writes the three tables of one run."""
    identity: Row = {
        "run": name,
        "role": role,
        "family": "gpt2",
        "size": "tiny",
        "technique": "kd" if role in ("student", "counterfactual") else None,
        "seed": seed,
        "step": STEP,
    }
    membership: list[Row] = []
    scores: list[Row] = []
    for index, (attack, params) in enumerate(ATTACKS.items()):
        values = planted_scores(role, seed, index)
        key = {"name": attack, "params": params}
        scores += _score_rows(values, {"run": name, "step": STEP, **key})
        skipped = 2 if role == "control" and attack == "loss" else 0
        shared = identity | key | {"audit": "membership", "population": "private"}
        membership += [row | shared | {"skipped": skipped} for row in _audit_rows(values)]
    write_part(run_dir, "scores", STEP, "membership", scores)
    write_part(run_dir, "results", STEP, "membership", membership)
    write_part(run_dir, "results", STEP, "utility", _utility_rows(identity))
    merge_parts(run_dir)


def planted_scores(role: str, seed: int, index: int) -> np.ndarray:
    """Returns scores [2, RECORDS] of private and held-out records under attack number `index`."""
    noise = np.random.default_rng(seed).normal(size=(2, RECORDS))
    values = noise + 0.3 * np.random.default_rng([seed, index]).normal(size=(2, RECORDS))
    values[0] += LEAK.get(role, 0.0)
    return values


def _score_rows(values: np.ndarray, key: Row) -> list[Row]:
    return [
        key
        | {
            "record": f"{population}-{i}",
            "population": population,
            "task": TASKS[i % len(TASKS)],
            "score": float(values[side, i]),
        }
        for side, population in enumerate(("private", "held_out"))
        for i in range(RECORDS)
    ]


def _audit_rows(values: np.ndarray) -> list[Row]:
    rows: list[Row] = []
    for task in (None, *TASKS):
        chosen = slice(None) if task is None else slice(TASKS.index(task), None, len(TASKS))
        estimate = auroc(values[0, chosen], values[1, chosen])
        rows.append({"task": task, "metric": "auroc", **_columns(estimate)})
    estimate = tpr_at_fpr(values[0], values[1], 0.1)
    rows.append({"metric": "tpr_at_fpr_0.1", **_columns(estimate)})
    counts = {"n_members": RECORDS, "n_nonmembers": RECORDS}
    return [*rows, {"metric": "tpr_at_fpr_0.01", **counts}]


def _columns(estimate: object) -> Row:
    names = ("value", "lower", "upper", "n_members", "n_nonmembers")
    return {name: getattr(estimate, name) for name in names}


def _utility_rows(identity: Row) -> list[Row]:
    shared = identity | {"audit": "utility", "population": "never", "n_nonmembers": RECORDS}
    return [
        shared | {"name": name, "metric": metric, "value": v, "lower": 0.95 * v, "upper": 1.05 * v}
        for name, metric, v in (("rouge_l", "rouge_l_f1", 0.31), ("perplexity", "perplexity", 24.5))
    ]


MEMORIZED = {"teacher": 0.6, "student": 0.4}


def write_planted_accuracy(run_dir: Path, name: str, role: str, seed: int, more: float = 0) -> None:
    """Adds token accuracies to one run's tables."""
    rows = [
        {
            **{"run": name, "step": STEP, "record": f"{population}-{i}", "population": population},
            **{"name": "token_accuracy", "params": {"tokens": 32}, "n_tokens": 20},
            "value": float(value),
        }
        for population, values in planted_accuracy(role, seed, more).items()
        for i, value in enumerate(values)
    ]
    write_part(run_dir, "memorization", STEP, "memorization", rows)
    merge_parts(run_dir)


def planted_accuracy(role: str, seed: int, more: float = 0) -> dict[str, np.ndarray]:
    """Returns accuracies [RECORDS] by population: every third private record is memorized."""
    found = {}
    for number, population in enumerate(("private", "held_out", "never")):
        ease = np.random.default_rng([0, number]).uniform(size=RECORDS)
        own = np.random.default_rng([seed, number, *role.encode()])
        values = 0.6 * ease + 0.05 * own.normal(size=RECORDS)
        if population == ("held_out" if role.startswith("counterfactual") else "private"):
            gain = MEMORIZED.get(role.replace("counterfactual_", ""), MEMORIZED["student"])
            values[::3] += 0.0 if role == "control" else gain + more
        found[population] = np.clip(values, 0.0, 1.0)
    return found
