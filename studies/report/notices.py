"""What a reader must know before the figures: warnings and gaps."""

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd

from audits.known_text import AUDIT, warnings_of
from audits.mechanism import Mechanism, note
from audits.scoring.blind_baseline import SplitsVerdict
from studies.claims.verdict import FEWEST_REPLICATES
from studies.compare.comparisons import has_manifest
from studies.compare.shift import dealt_sides, shift_of_splits
from studies.report.controls import control_notices
from studies.report.labels import METRIC_NAMES
from studies.report.parts import Notice, listed
from studies.report.study_data import ATTACK_NAMES, StudyData

__all__ = ["notices"]


def notices(data: StudyData, *, out_of_date: bool) -> list[Notice]:
    """Returns all notices, the gravest first."""
    found = [
        *_revealed(data),
        *_ignorant(data),
        *_unfinished(data, out_of_date),
        *_shifted(data),
        *_skipped(data),
        *_unclustered(data),
        *_not_measurable(data),
        *control_notices(data),
        *_mechanisms(data),
        *_replicates(data),
    ]
    order = ("alert", "caution", "note", "good")
    return sorted(found, key=lambda notice: order.index(notice.level))


def _revealed(data: StudyData) -> Iterator[Notice]:
    if data.reveal:
        yield Notice(
            "alert",
            "This page shows private records in words",
            "It lies in a folder that only its owner can open. Do not pass it on; "
            "`report/index.html` is the same page without them.",
        )


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
    rows = data.rows(audit="membership", run_b=None)
    rows = rows[rows["n_members"].notna()]  # not those of non-members alone
    sides = dealt_sides(data.results)
    dealt = [side in sides for side in zip(rows["run"], rows["population"], strict=True)]
    members, lucky = rows[~np.array(dealt, dtype=bool)], rows[np.array(dealt, dtype=bool)]
    together = shift_of_splits(data.results, {cell.alias: cell for cell in data.cells})
    if len(lucky):
        yield from _luck(_shifted_runs(lucky), together)
        together = None
    runs = _shifted_runs(members)
    if runs:
        yield Notice(
            "alert",
            "Shifted data",
            f"A classifier that sees only the text tells members from non-members ({runs}), and "
            "coins are not known to have dealt them: attacks then measure the data, not the "
            "model. So do swap estimates, as a teacher learns the distribution of its side too.",
        )
        return
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
            "Coins are not known to have dealt the sides, and no blind baseline showed that their "
            f"texts cannot be told apart.{enough} A shift can pass for a leak, in a swap estimate "
            "too, and can hide one: no claim is confirmed or refuted.",
        )


def _shifted_runs(rows: pd.DataFrame) -> str:
    return ", ".join(rows.loc[rows["shifted"].eq(True), "label"].unique())


def _luck(runs: str, together: SplitsVerdict | None) -> Iterator[Notice]:
    """Yields what the texts tell where coins dealt the sides: luck, unless every split has it."""
    if together is not None and together.shifted:
        yield Notice(
            "alert",
            "The texts differ in every split, though coins dealt them",
            "Over the splits of all replicates, a classifier that sees only the text tells members "
            f"from non-members ({_figures(together)}). Coins do not do that: something after them "
            "depends on the side, such as a filter.",
        )
    elif runs:
        yield Notice(
            "note",
            "The coins dealt uneven texts",
            f"A classifier that sees only the text tells members from non-members ({runs}). Fair "
            "coins dealt them, so that this is luck, of one split in a hundred, which every "
            "interval counts: it caps no verdict.",
        )


def _together(found: SplitsVerdict) -> Notice:
    if found.shifted:
        return Notice(
            "alert",
            "Shifted data",
            "Over the splits of all replicates, a classifier that sees only the text tells "
            f"members from non-members ({_figures(found)}), and coins are not known to have dealt "
            "them: AUROCs and swap estimates measure the data.",
        )
    return Notice(
        "note",
        "Shift between the record sets: excluded over all replicates",
        f"No split alone has enough records to show it; all together do ({_figures(found)}).",
    )


def _figures(found: SplitsVerdict) -> str:
    return f"mean AUROC of the texts alone {found.auroc:.3f}, at most {found.upper_bound:.3f}"


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


def _unclustered(data: StudyData) -> Iterator[Notice]:
    """Yields which runs' near-duplicates are not known, as without their private folders."""
    cells = [cell for cell in data.cells if not has_manifest(cell)]
    labels = [data.labels.get(cell.alias, cell.alias) for cell in cells]
    if labels:
        yield Notice(
            "caution",
            "Near-duplicates are not known",
            f"The private folders of {listed(labels)} are not here: what compares two runs, and "
            "what is said of controls, counts their records as independent, and intervals may be "
            "too narrow.",
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


def _mechanisms(data: StudyData) -> Iterator[Notice]:
    """Yields a warning for techniques whose mechanism never ran in some run, and what ran."""
    ran: dict[str, list[Mechanism]] = {}
    for alias, technique in data.configured.items():
        if alias in data.mechanisms:
            ran.setdefault(str(technique), []).append(data.mechanisms[alias])
    for name, runs in ran.items():
        offline = [run for run in runs if run.offline]
        if offline:
            where = "every run" if len(offline) == len(runs) else f"{len(offline)} of {len(runs)}"
            yield Notice(
                "caution",
                f"{name} ran offline in {where}",
                f"No update of these runs drew a fresh or a replayed batch: the threshold on the "
                f"development loss stayed too low. They are {offline[0].offline_name} on the "
                f"records' own responses, are called so here, and say nothing of {name}.",
            )
    shown = [f"{name} {text}" for name, runs in ran.items() if (text := note(runs))]
    if shown:
        yield Notice(
            "note",
            "What of the techniques ran",
            f"Shares of updates and rounds, means over all of a technique's runs: {listed(shown)}.",
        )


def _replicates(data: StudyData) -> Iterator[Notice]:
    count = data.n_replicates
    repeats = max((cell.repeat for cell in data.cells), default=1)
    if repeats > 1:
        yield Notice(
            "note",
            f"{repeats} repeats of each split",
            "Teachers and students of fresh seeds on the same split are no replicates: they are "
            "averaged before anything is said about techniques, and serve what is said of records.",
        )
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
