"""What attackers find who see so much of a model, each by an attack that no result has chosen."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from audits.answer import AccessAnswer
from audits.answer.answer import VERDICT_NAMES
from audits.answer.one_model import FALSE_PER_100
from common.prose import prose
from studies.report import tables
from studies.report.access import study_access
from studies.report.parts import Part, Text, section
from studies.report.study_data import StudyData

ACCESS_HEADING = "What each kind of access finds"
_SAYS = prose(__file__)


@section("by_access", ACCESS_HEADING)
def by_access(data: StudyData) -> Iterator[Part]:
    """Yields a row for every kind of model and of access."""
    yield from access_parts(study_access(data), data.notes)


def access_parts(
    models: Sequence[tuple[str, Sequence[AccessAnswer]]], notes: Mapping[str, str] | None = None
) -> list[Part]:
    """Returns the table and what it says; nothing where no attack ran.

    Args:
        models: What each kind of access finds, by the model's label.
        notes: What ran of a technique, by the labels of its models.
    """
    lines = [_line(label, one) for label, answers in models for one in answers]
    if not lines:
        return []
    columns = [
        *(tables.words(notes, label="Model") if len(models) > 1 else []),
        *tables.words(access="The attacker sees", attack="Attack"),
        tables.estimate("AUROC"),
        *tables.words(
            **{
                f"found_{rate:g}": f"Found of 100, at {rate:g} false per 100"
                for rate in FALSE_PER_100
            },
            verdict="Verdict",
        ),
        *tables.counts(False),
    ]
    frame = pd.DataFrame(lines)
    shown = tables.table("by_access", ACCESS_HEADING, columns, frame, frame, apart=False)
    return [Text(_SAYS["text"]), shown]


def _line(label: str, one: AccessAnswer) -> dict[str, object]:
    told, figure = one.membership, one.membership.figure
    rates = {f"found_{found.false_per_100:g}": found.text for found in one.found}
    return {
        **{"label": label, "access": one.access, "attack": told.title},
        **{name: getattr(figure, name) for name in tables.ESTIMATE},
        **{f"found_{rate:g}": rates.get(f"found_{rate:g}") for rate in FALSE_PER_100},
        "verdict": None if told.verdict is None else VERDICT_NAMES[told.verdict.word],
    }
