"""What of the techniques ran, in the words of a notice."""

from collections.abc import Iterator

from audits.mechanism import Mechanism, note
from studies.report.notice import Notice, listed
from studies.report.study_data import StudyData

__all__ = ["mechanism_notices"]


def mechanism_notices(data: StudyData) -> Iterator[Notice]:
    """Yields a warning for techniques whose mechanism never ran in some run, and what ran."""
    ran: dict[str, list[Mechanism]] = {}
    for cell in data.cells:
        if cell.alias in data.mechanisms:
            name = data.configured.get(cell.alias) or str(cell.technique)
            mechanism = data.mechanisms[cell.alias]
            ran.setdefault(name, []).append(mechanism)
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
