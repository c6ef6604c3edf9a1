"""What a reader must know before the figures: warnings, gaps, and the headline."""

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd

from callbacks.known_text import AUDIT, warnings_of
from callbacks.membership.blind import SplitsVerdict
from studies.claims.verdict import FEWEST_REPLICATES
from studies.report.controls import control_notices
from studies.report.figures import comparison_rows, headline_rows
from studies.report.notice import Notice, listed
from studies.report.over_replicates import over_replicates
from studies.report.study_data import ATTACK_NAMES, METRIC_NAMES, PRIMARY_ATTACK, StudyData
from studies.shift import shift_of_splits

__all__ = ["estimate_text", "headline", "notices"]


def estimate_text(row: pd.Series) -> str:
    """Returns a value with its 95% interval, or `not measurable`."""
    if pd.isna(row["value"]):
        return "not measurable"
    if pd.isna(row["lower"]):
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"


def notices(data: StudyData, *, out_of_date: bool) -> list[Notice]:
    """Returns all notices, the gravest first."""
    found = [
        *_ignorant(data),
        *_unfinished(data, out_of_date),
        *_shifted(data),
        *_skipped(data),
        *_not_measurable(data),
        *control_notices(data),
        *_replicates(data),
    ]
    order = ("alert", "caution", "note", "good")
    return sorted(found, key=lambda notice: order.index(notice.level))


def headline(data: StudyData) -> str:
    """Returns the study's result in one or two sentences with figures, as far as its runs allow."""
    runs = over_replicates(data, headline_rows(data), ["role"])
    parts = []
    for role, name in (("teacher", "The teacher's"), ("control", "the control's")):
        rows = runs[runs["role"] == role]
        if len(rows):
            parts.append(f"{name} AUROC is {estimate_text(rows.iloc[0])}")
    sentence = "; ".join(parts) + "." if parts else "No membership audit is finished yet."
    swaps = comparison_rows(data, "swap_estimate")
    swaps = swaps[(swaps["name"] == PRIMARY_ATTACK) & (swaps["role"] == "student")]
    if len(swaps):
        swaps = over_replicates(data, swaps.drop(columns="pair"))
        worst = swaps.sort_values("value").iloc[-1]
        sentence += (
            " What came through the teacher: by the swap estimate, which no difference between the "
            f"records can fake, “{worst['label']}” tells private from held-out records with "
            f"AUROC {estimate_text(worst)}."
        )
    return sentence[0].upper() + sentence[1:]


def _ignorant(data: StudyData) -> Iterator[Notice]:
    for label, own in data.rows(audit=AUDIT).groupby("label", sort=False):
        rows = [{str(name): value for name, value in row.items()} for row in own.to_dict("records")]
        for text in warnings_of(rows):
            yield Notice("alert", f"{label} guesses", f"{text[0].upper()}{text[1:]}.")


def _unfinished(data: StudyData, out_of_date: bool) -> Iterator[Notice]:
    open_cells = {
        cell.alias: data.states[cell.id]
        for cell in data.plan.cells
        if data.states[cell.id] != "done"
    }
    if open_cells:
        text = listed([f"{alias} ({state})" for alias, state in open_cells.items()])
        yield Notice(
            "alert", f"{len(open_cells)} of {len(data.plan.cells)} cells are not done", text
        )
    if out_of_date:
        yield Notice(
            "caution",
            "The study file or its inputs changed since the last run",
            "This page shows the last run. `kd-study run` brings the changed cells up to date.",
        )


def _shifted(data: StudyData) -> Iterator[Notice]:
    members = data.rows(audit="membership", run_b=None)
    shifted = members[members["shifted"].eq(True)]
    if len(shifted):
        runs = ", ".join(shifted["label"].unique())
        yield Notice(
            "alert",
            "Shifted data",
            f"A classifier that sees only the text tells members from non-members ({runs}): "
            "private against held-out then measures the data, not the model. Read the swap "
            "estimates alone.",
        )
        return
    together = shift_of_splits(data.results, {cell.alias: cell for cell in data.cells})
    if together is not None and together.shifted is not None:
        yield _together(together)
    elif len(members) and members["shifted"].isna().any():
        needed = members[members["metric"].eq("records_needed") & members["shifted"].isna()]
        enough = (
            f" About {needed['value'].max():,.0f} records a side would show it."
            if len(needed)
            else ""
        )
        yield Notice(
            "note",
            "Shift between the record sets: not excluded",
            "No blind baseline showed that private and held-out texts cannot be told apart."
            f"{enough} A shift would leave a swap estimate of nothing at 0.5, and pull one of a "
            "partial leak towards it.",
        )


def _together(found: SplitsVerdict) -> Notice:
    figures = f"mean AUROC of the texts alone {found.auroc:.3f}, at most {found.upper_bound:.3f}"
    if found.shifted:
        return Notice(
            "alert",
            "Shifted data",
            "Over the splits of all replicates, a classifier that sees only the text tells "
            f"members from non-members ({figures}). Read the swap estimates alone.",
        )
    return Notice(
        "note",
        "Shift between the record sets: excluded over all replicates",
        f"No split alone has enough records to show it; all together do ({figures}).",
    )


def _skipped(data: StudyData) -> Iterator[Notice]:
    rows = data.rows(run_b=None)
    counted = rows.assign(skipped=rows["skipped"].fillna(0))
    most = counted.groupby(["name", "label"], sort=False)["skipped"].max().reset_index()
    parts = []
    for name, own in most.groupby("name", sort=False):
        some = own[own["skipped"] > 0]
        if len(some):
            few, many = some["skipped"].min(), some["skipped"].max()
            every = len(some) == len(own) > 1
            who = f"all {len(own)} models" if every else listed(list(some["label"]))
            known = ATTACK_NAMES.get(str(name), str(name).replace("_", " "))
            count = f"{few:.0f}" if few == many else f"{few:.0f} to {many:.0f}"
            parts.append(f"{known} {count} ({who})")
    if parts:
        yield Notice(
            "caution",
            "Records without a score",
            f"Counted, not scored, at most: {'; '.join(parts)}.",
        )


def _not_measurable(data: StudyData) -> Iterator[Notice]:
    rows = data.rows(run_b=None)
    # Null exactly where its TPR is, which has a line of its own.
    derived = rows["metric"].str.startswith("epsilon_equivalent")
    rows = rows[rows["value"].isna() & ~derived]
    by_length = ["length" in json.loads(text) for text in rows["params"]]
    of_a_part = rows["task"].notna() | np.array(by_length, dtype=bool)
    for metric, group in rows[~of_a_part].groupby("metric"):
        few = group["n_nonmembers"].min()
        count = "" if pd.isna(few) else f", with as few as {int(few)} non-members"
        yield Notice(
            "caution",
            f"{METRIC_NAMES.get(str(metric), metric)}: not measurable in {len(group)} rows",
            f"{listed(list(group['label'].unique()))}{count}.",
        )
    within = rows[of_a_part]
    if len(within):
        names = dict.fromkeys(within["metric"].map(lambda metric: METRIC_NAMES.get(metric, metric)))
        shown = ", ".join(name.replace("_", " ") for name in names)
        n_tasks = within["task"].nunique()
        places = [f"{n_tasks} tasks"] if n_tasks else []
        if within["task"].isna().any():
            places.append("some lengths of response")
        yield Notice(
            "note",
            "Within tasks and lengths: not everything is measurable",
            f"In {' and '.join(places)} there are too few records for {shown} of some runs "
            f"({len(within)} rows without a value).",
        )


def _replicates(data: StudyData) -> Iterator[Notice]:
    count = len({cell.replicate for cell in data.cells})
    needed = "needs at least five replicates (fresh split, teacher and student)."
    if count == 1:
        yield Notice(
            "note",
            "1 replicate: about these weights",
            "Intervals are over records, given these trained models. A statement about a technique "
            + needed,
        )
    elif count < FEWEST_REPLICATES:
        yield Notice("note", f"{count} replicates", f"A statement about techniques {needed}")
