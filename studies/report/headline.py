"""The page's first figures: teacher, students and control, and what the private records added."""

from collections.abc import Mapping

import pandas as pd

from studies.report.figures import comparison_rows, headline_rows
from studies.report.notices import headline
from studies.report.over_replicates import over_replicates
from studies.report.study_data import ATTACK_NAMES, StudyData

__all__ = ["headline_values"]


def headline_values(data: StudyData) -> dict[str, object]:
    """Returns what the section `result` reads: the sentence, its figures, and of which attack."""
    return {
        "headline": headline(data),
        "cards": _cards(data),
        "primary": ATTACK_NAMES[data.primary[0]],
        "replicates": len({cell.replicate for cell in data.cells}) if data.replicated else 1,
    }


def _cards(data: StudyData) -> list[dict[str, str]]:
    notes = data.notes
    runs = headline_rows(data)
    runs = runs[runs["role"].isin(("teacher", "student", "control"))]
    runs = over_replicates(data, runs)
    cards = [_card(row, "AUROC", notes) for _, row in runs.iterrows()]
    for metric, what in (
        ("auroc_difference", "minus its counterfactual"),
        ("swap_estimate", "swap estimate"),
    ):
        rows = comparison_rows(data, metric)
        rows = rows[(rows["role"] == "student") & rows["label_b"].str.startswith("Counterfactual")]
        firsts = over_replicates(data, data.of_primary(rows).drop(columns="pair"))
        cards += [_card(row, what, notes) for _, row in firsts.iterrows()]
    return cards


def _card(row: pd.Series, what: str, notes: Mapping[str, str]) -> dict[str, str]:
    name = row["label"]
    if name in notes:
        name += f" ({notes[name]})"
    measured = pd.notna(row["value"])
    interval = "no interval" if measured else "not measurable"
    if measured and pd.notna(row["lower"]):
        interval = f"[{row['lower']:.3f}, {row['upper']:.3f}]"
    records = f"{row['n_members']:.0f} private + {row['n_nonmembers']:.0f}"
    repeated = row["replicates"] > 1
    return {
        "what": f"{name}: {what}",
        "value": f"{row['value']:.3f}" if measured else "—",
        "interval": interval,
        "note": f"n = {row['replicates']} replicates" if repeated else f"n = {records}",
    }
