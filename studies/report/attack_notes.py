"""What a row of an attack says beside its name: `rmia`'s correction, and whose ranking it has."""

import pandas as pd

from audits.membership.attacks import Loss, Reference
from studies.report.study_data import StudyData

__all__ = ["attack_notes"]

_SAME_RANKING = 0.9999
"""Rank correlation from which two attacks are one: no record of 1,000 moves by more than a few."""

_OTHERS = {"spearman_reference": Reference.title, "spearman_loss": Loss.title}


def attack_notes(data: StudyData) -> dict[tuple[str, str], str]:
    """Returns what to add to an attack's name, by the label of its row and that name.

    The correction a of `rmia`, the range of it over replicates, and the attack whose ranking it has
    where the rank correlation is at least 0.9999 in every run of the row. Attacks without these
    rows of diagnostics are not there.

    Args:
        data: The study; its private records count.
    """
    rows = data.rows(audit="membership", population="private", task=None, block=None, run_b=None)
    rows = rows[rows["metric"].isin(["a", *_OTHERS])]
    labels = rows["run"].map(data.kinds) if data.replicated else rows["label"]
    found = {}
    for (label, attack), own in rows.groupby([labels, rows["attack"]], sort=False):
        parts = _correction(own[own["metric"] == "a"]["value"])
        for metric, other in _OTHERS.items():
            correlations = own[own["metric"] == metric]["value"]
            if len(correlations) and (correlations >= _SAME_RANKING).all():
                parts.append(f"the ranking of {other}")
        if parts:
            found[str(label), str(attack)] = ", ".join(parts)
    return found


def _correction(values: pd.Series) -> list[str]:
    if not len(values):
        return []
    low, high = float(values.min()), float(values.max())
    return [f"a = {low:g}" if low == high else f"a = {low:g} to {high:g}"]
