"""Rows of the three tables as their makers know them: without the columns of a run."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum, auto
from typing import Protocol, TypedDict

METRIC = r"[a-z][a-z0-9_]*(?:[.e][0-9+-]+)?"
"""What a metric's name looks like, as a regular expression."""

_FEWEST = 2


class Audit(StrEnum):
    """What has measured a row; members are named as tables write them."""

    membership = auto()
    memorization = auto()
    blocks = auto()
    utility = auto()
    exposure = auto()
    spans = auto()
    released = auto()
    transfer = auto()
    mechanism = auto()
    known_text = auto()
    records = auto()
    template = auto()
    precision = auto()
    throughput = auto()
    guarantee = auto()
    text_bound = auto()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ResultRow(Mapping[str, object]):
    """One figure of an audit; also a mapping from columns to values, for whoever adds a run's.

    Attributes:
        name: Id of the attack, metric or signal.
        metric: What the value is: lower case, with a rate or a count where it has one, such as
            ``tpr_at_fpr_0.01``.
        population: Whose records; the members' where two populations are set against each other.
        task: Task of the records; None for all.
        block: Block of the model.
        params: Options of the attack, metric or signal.
        value: The figure; None where it could not be measured.
        lower: Lower end of its 95% interval.
        upper: Upper end.
        p_value: In [0, 1].
        n_members: Members behind the figure.
        n_nonmembers: Non-members behind it.
        skipped: Records of the populations that could not be scored.
        shifted: Whether the texts alone tell the populations apart; None where that is not known.
        audit: What has measured it, where that is not the audit that writes it.
    """

    name: str
    metric: str
    population: str | None = None
    task: str | None = None
    block: int | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None
    n_members: int | None = None
    n_nonmembers: int | None = None
    skipped: int | None = None
    shifted: bool | None = None
    audit: Audit | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(METRIC, self.metric):
            raise ValueError(f"{self.metric!r} is no metric: lower case, digits and _")
        for column in ("value", "lower", "upper", "p_value"):
            number = getattr(self, column)
            if number is not None and math.isnan(number):
                raise ValueError(f"{self.name} {self.metric}: {column} is not a number; give None")

    def __getitem__(self, column: str) -> object:
        if column not in _COLUMNS or (column == "audit" and self.audit is None):
            raise KeyError(column)
        return getattr(self, column)

    def __iter__(self) -> Iterator[str]:
        return (name for name in _COLUMNS if name != "audit" or self.audit is not None)

    def __len__(self) -> int:
        return len(list(iter(self)))


_COLUMNS = tuple(column.name for column in fields(ResultRow))


class ScoreRow(TypedDict, total=False):
    """One record's score under an attack, or under a signal at a block; no task is null."""

    record: str
    population: str
    task: str | None
    name: str
    params: Mapping[str, object]
    block: int
    score: float


class MemorizationRow(TypedDict, total=False):
    """What one memorization metric says of a record; `value` is None where it is not finite."""

    record: str
    population: str
    task: str | None
    name: str
    params: Mapping[str, object]
    value: float | None
    n_tokens: int


class Interval(Protocol):
    """A figure with the ends of its interval, NaN or None where one could not be measured."""

    @property
    def value(self) -> float | None:
        """The figure."""

    @property
    def lower(self) -> float | None:
        """Lower end."""

    @property
    def upper(self) -> float | None:
        """Upper end."""


class Bounds(TypedDict, total=False):
    """The columns of a row that say how large a figure is."""

    value: float | None
    lower: float | None
    upper: float | None


def known(number: float | None) -> float | None:
    """Returns a number as tables hold it: None for NaN, which stands for what is not measured."""
    return None if number is None or math.isnan(number) else float(number)


def bounds(found: Interval | None) -> Bounds:
    """Returns the columns of a figure with its interval; none where nothing was measured."""
    if found is None:
        return {}
    return {"value": known(found.value), "lower": known(found.lower), "upper": known(found.upper)}


def told_tasks(*sides: Sequence[str]) -> list[str]:
    """Returns the tasks that have rows of their own: named, with two records or more on every side.

    Args:
        sides: Tasks of the records of each population that a figure is about.
    """
    counts = [Counter(side) for side in sides]
    return sorted(
        task for task in counts[0] if task and min(count[task] for count in counts) >= _FEWEST
    )


def band_tags(tag: str) -> list[str]:
    """Returns the tags of a curve and of the ends of its interval, which lie apart from curves.

    >>> band_tags("membership/private/loss/auroc")[1]
    '~bounds/membership/private/loss/auroc/lower'
    """
    return [tag, *(f"~bounds/{tag}/{end}" for end in ("lower", "upper"))]


def banded(tag: str, found: Interval) -> dict[str, float]:
    """Returns a figure and the ends of its interval, where known, by TensorBoard tag."""
    numbers = zip(band_tags(tag), (found.value, found.lower, found.upper), strict=True)
    return {name: float(number) for name, number in numbers if number is not None}
