"""Methods, versions, commands."""

from collections.abc import Iterator

import pandas as pd
from markupsafe import Markup

from common.prose import prose
from studies.plan.cells import Cell
from studies.report import tables
from studies.report.labels import ROLE_NAMES
from studies.report.parts import Fold, Pair, Part, Terms, Text, section
from studies.report.study_data import StudyData
from studies.run.progress import duration_text

_SAYS = prose(__file__)


@section("methods", "Methods, versions, commands", always=True)
def methods(data: StudyData) -> Iterator[Part]:
    """Yields what was measured and with what, the runs, and their commands."""
    if data.plan.description:
        yield Text(data.plan.description)
    measured = Terms("What was measured", list(_SAYS["terms"].items()))
    yield Pair((measured, Terms("With what", list(_versions(data).items()))))
    yield runs_table(data)
    commands = [
        (data.labels[cell.alias], Markup("<pre><code>{}</code></pre>").format(cell.command))
        for cell in data.plan.cells
    ]
    yield Fold("Commands that reproduce each run", [Terms("", commands)])
    yield Text(_SAYS["caption"], "caption")


def _versions(data: StudyData) -> dict[str, str]:
    """Returns versions and machine; several values where cells differ."""
    seen: dict[str, list[str]] = {}
    for facts in data.facts.values():
        versions = facts.get("versions")
        entries = dict(versions) if isinstance(versions, dict) else {}
        for name, value in {**entries, "machine": facts.get("machine", "unknown")}.items():
            seen.setdefault(name, [])
            if str(value) not in seen[name]:
                seen[name].append(str(value))
    return {"study file": data.plan.source} | {name: "; ".join(all_) for name, all_ in seen.items()}


def runs_table(data: StudyData) -> tables.PageTable:
    """Returns every planned run with its seeds, state and time."""
    frame = pd.DataFrame([_record(data, cell) for cell in data.plan.cells])
    columns = [
        *tables.words(data.notes, label="Model", spoken="Role", size="Network", state="State"),
        *tables.counts(False, replicate="Replicate", seed="Seed", threads="Threads"),
        tables.number("Time", "seconds", text="time"),
    ]
    shown = frame.assign(
        spoken=frame["role"].map(ROLE_NAMES),
        time=["" if pd.isna(own) else duration_text(own) for own in frame["seconds"]],
    )
    caption = "Runs, their seeds and the time they took"
    return tables.table("runs", caption, columns, shown, frame)


def _record(data: StudyData, cell: Cell) -> dict[str, object]:
    seconds = data.facts.get(cell.alias, {}).get("seconds")
    kept = ("replicate", "repeat", "seed", "threads")
    return {
        **{"label": data.labels[cell.alias], "run": cell.alias, "id": cell.id, "role": cell.role},
        **{"size": cell.size, "state": data.states[cell.id]},
        **{name: getattr(cell, name) for name in kept},
        "seconds": None if seconds is None else float(str(seconds)),
        "command": cell.command,
    }
