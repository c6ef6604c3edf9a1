"""What a reader must know before the figures: warnings and gaps."""

import json
from collections.abc import Iterator

import numpy as np
import pandas as pd

from audits.guarantee import AUDIT as GUARANTEE
from audits.known_text import AUDIT, warnings_of
from audits.mechanism import Mechanism, note
from audits.membership.single_records import SINGLE_RECORDS
from audits.scoring.blind_baseline import SplitsVerdict
from common.prose import prose
from studies.claims.verdict import FEWEST_REPLICATES
from studies.compare.record_clusters import has_manifest
from studies.compare.shift import dealt_sides, shift_of_splits
from studies.report.controls import control_notices
from studies.report.labels import attack_title, metric_title, within_sentence
from studies.report.parts import Notice, listed
from studies.report.study_data import StudyData

_SAYS = prose(__file__)


def notices(data: StudyData, *, out_of_date: bool) -> list[Notice]:
    """Returns all notices, the gravest first."""
    found = [
        *_revealed(data),
        *_ignorant(data),
        *_unfinished(data, out_of_date),
        *_shifted(data),
        *_mechanisms(data),
        *_unclustered(data),
        *_not_measurable(data),
        *_skipped(data),
        *control_notices(data),
        *_replicates(data),
    ]
    order = ("alert", "caution", "note", "good")
    return sorted(found, key=lambda notice: order.index(notice.level))


def _notice(kind: str, **values: object) -> Notice:
    return Notice.filled(_SAYS[kind], **values)


def _revealed(data: StudyData) -> Iterator[Notice]:
    if data.reveal:
        yield _notice("revealed")


def _ignorant(data: StudyData) -> Iterator[Notice]:
    for label, own in data.rows(audit=AUDIT).groupby("label", sort=False):
        rows = [{str(name): value for name, value in row.items()} for row in own.to_dict("records")]
        for text in warnings_of(rows):
            yield _notice("guesses", label=label, warning=f"{text[0].upper()}{text[1:]}")


def _unfinished(data: StudyData, out_of_date: bool) -> Iterator[Notice]:
    cells = data.plan.cells
    states = {cell.alias: data.states[cell.id] for cell in cells}
    open_cells = [f"{alias} ({state})" for alias, state in states.items() if state != "done"]
    if open_cells:
        counts = {"unfinished": len(open_cells), "planned": len(cells)}
        yield _notice("unfinished", **counts, cells=listed(open_cells))
    if out_of_date:
        yield _notice("out_of_date")


def _shifted(data: StudyData) -> Iterator[Notice]:
    rows = data.rows(audit="membership", run_b=None)
    # Not those of non-members alone, nor of single records, which worlds judge and no sides.
    rows = rows[rows["n_members"].notna() & rows["name"].ne(SINGLE_RECORDS)]
    sides = dealt_sides(data.results)
    dealt = np.array([side in sides for side in zip(rows["run"], rows["population"], strict=True)])
    members, lucky = rows[~dealt.astype(bool)], rows[dealt.astype(bool)]
    together = shift_of_splits(data.results, {cell.alias: cell for cell in data.cells})
    if len(lucky):
        yield from _luck(_shifted_runs(lucky), together)
        together = None
    if runs := _shifted_runs(members):
        yield _notice("shifted", runs=runs)
    elif together is not None and together.shifted is not None:
        kind = "shifted_together" if together.shifted else "shift_excluded"
        yield _notice(kind, figures=_figures(together))
    elif len(members) and members["shifted"].isna().any():
        needed = members[members["metric"].eq("records_needed") & members["shifted"].isna()]
        most = needed["value"].max()
        enough = f" About {most:,.0f} records a side would show it." if len(needed) else ""
        yield _notice("shift_not_excluded", enough=enough)


def _shifted_runs(rows: pd.DataFrame) -> str:
    return ", ".join(rows.loc[rows["shifted"].eq(True), "label"].unique())


def _luck(runs: str, together: SplitsVerdict | None) -> Iterator[Notice]:
    """Yields what the texts tell where coins dealt the sides: luck, unless every split has it."""
    if together is not None and together.shifted:
        yield _notice("every_split_differs", figures=_figures(together))
    elif runs:
        yield _notice("uneven_coins", runs=runs)


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
            known = attack_title(str(name)) or metric_title(str(name))
            count = f"{few:.0f}" if few == many else f"{few:.0f} to {many:.0f}"
            parts.append(f"{known} {count} ({who})")
    if parts:
        yield _notice("skipped", counts="; ".join(parts))


def _unclustered(data: StudyData) -> Iterator[Notice]:
    """Yields which runs' near-duplicates are not known, as without their private folders."""
    aliases = [cell.alias for cell in data.cells if not has_manifest(cell)]
    if aliases:
        yield _notice("unclustered", runs=listed([data.labels.get(name, name) for name in aliases]))


def _not_measurable(data: StudyData) -> Iterator[Notice]:
    rows = data.rows(run_b=None)
    # Null exactly where its TPR is, which has a line of its own.
    derived = rows["metric"].str.startswith("epsilon_equivalent")
    # Null where nothing is guaranteed, which is no measurement.
    stated = rows["audit"].eq(GUARANTEE)
    rows = rows[rows["value"].isna() & ~derived & ~stated]
    by_length = ["length" in json.loads(text) for text in rows["params"]]
    of_a_part = rows["task"].notna() | np.array(by_length, dtype=bool)
    for metric, group in rows[~of_a_part].groupby("metric"):
        few = group["n_nonmembers"].min()
        count = "" if pd.isna(few) else f", with as few as {int(few)} non-members"
        labels = listed(list(group["label"].unique()))
        name = metric_title(str(metric))
        yield _notice("not_measurable", metric=name, rows=len(group), labels=labels, count=count)
    within = rows[of_a_part]
    if len(within):
        names = [within_sentence(metric_title(name)) for name in within["metric"].unique()]
        n_tasks = within["task"].nunique()
        places = [f"{n_tasks} tasks"] if n_tasks else []
        places += ["some lengths of response"] if within["task"].isna().any() else []
        where = " and ".join(places)
        yield _notice(
            "not_measurable_within", places=where, metrics=", ".join(names), rows=len(within)
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
            called = offline[0].offline_name
            yield _notice("offline", technique=name, where=where, called=called)
    shown = [f"{name} {text}" for name, runs in ran.items() if (text := note(runs))]
    if shown:
        yield _notice("mechanisms", techniques=listed(shown))


def _replicates(data: StudyData) -> Iterator[Notice]:
    repeats = max((cell.repeat for cell in data.cells), default=1)
    if repeats > 1:
        yield _notice("repeats", repeats=repeats)
    if data.n_replicates == 1:
        yield _notice("one_replicate")
    elif data.n_replicates < FEWEST_REPLICATES:
        yield _notice("few_replicates", replicates=data.n_replicates)
