"""What a section of the page is made of; the page's template knows these parts and no others.

In texts, `*words*` are emphasised, `**words**` stand out, words between backticks are code, and an
empty line begins a new one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps

from studies.report.charts import LegendEntry, Spec
from studies.report.study_data import StudyData
from studies.report.tables import PageTable

_NAMED = 6


@dataclass(frozen=True)
class Text:
    """A paragraph; `role` is p, caption or subtitle."""

    text: str
    role: str = "p"


@dataclass(frozen=True)
class Chart:
    """A chart by name: a Vega-Lite specification, what it shows, and a title where it needs one."""

    name: str
    spec: Spec
    caption: str
    title: str = ""


@dataclass(frozen=True)
class Legend:
    """The colours that the section's charts share: label, colour and whether a line is dashed."""

    name: str
    entries: Sequence[LegendEntry]


@dataclass(frozen=True)
class Choice:
    """A choice among options, which sets a parameter of the section's charts."""

    label: str
    parameter: str
    options: Sequence[str]


@dataclass(frozen=True)
class Terms:
    """Terms and what is said of each, which may be `markupsafe.Markup`."""

    title: str
    entries: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Pair:
    """Parts side by side where the window is wide enough."""

    parts: Sequence["Part"]


@dataclass(frozen=True)
class Fold:
    """Parts that a click on their summary shows."""

    summary: str
    parts: Sequence["Part"]


Part = Text | Chart | Legend | Choice | Terms | Pair | Fold | PageTable


@dataclass(frozen=True)
class Section:
    """A part of the page; shown where it has a chart or a table with rows.

    Attributes:
        id: Its anchor.
        heading: Its heading.
        parts: What stands in it, in reading order. A table without rows is not shown, but written.
        always: Whether it is shown with texts alone.
    """

    id: str
    heading: str
    parts: Sequence[Part]
    always: bool = False

    @property
    def charts(self) -> dict[str, Spec]:
        """Its charts by name."""
        return {part.name: part.spec for part in _inside(self.parts) if isinstance(part, Chart)}

    @property
    def tables(self) -> dict[str, PageTable]:
        """Its tables by name."""
        return {part.name: part for part in _inside(self.parts) if isinstance(part, PageTable)}

    @property
    def body(self) -> list[Part]:
        """What stands in the section itself: everything but its tables and their captions."""
        return [part for part, owner in _owned(self.parts) if owner is None]

    @property
    def appendix(self) -> dict[str, list[Part]]:
        """Its tables with rows, each with its caption, by name; they stand at the page's end."""
        found: dict[str, list[Part]] = {}
        for part, owner in _owned(self.parts):
            if owner is not None and owner.rows:
                found.setdefault(owner.name, []).append(part)
        return found

    @property
    def shown(self) -> bool:
        """Whether the page has it."""
        measured = self.charts or any(table.rows for table in self.tables.values())
        return self.always or bool(measured and [p for p in self.body if not isinstance(p, Legend)])


def _owned(parts: Sequence[Part]) -> Iterator[tuple[Part, PageTable | None]]:
    """Yields parts with the table that they are or explain: a caption after a table is that's."""
    owner: PageTable | None = None
    for part in parts:
        if isinstance(part, PageTable):
            owner = part if part.apart else None
        elif isinstance(part, Fold) and all(isinstance(inner, PageTable) for inner in part.parts):
            yield from _owned(part.parts)
            continue
        elif not (isinstance(part, Text) and part.role == "caption"):
            owner = None
        if not (isinstance(part, Pair) and not part.parts):
            yield part, owner


def _inside(parts: Sequence[Part]) -> Iterator[Part]:
    for part in parts:
        yield part
        if isinstance(part, Pair | Fold):
            yield from _inside(part.parts)


def section(
    id_: str, heading: str, *, always: bool = False
) -> Callable[[Callable[[StudyData], Iterator[Part]]], Callable[[StudyData], Section]]:
    """Makes a function that yields a section's parts one that returns the section.

    Args:
        id_: Its anchor.
        heading: Its heading.
        always: Whether it is shown with texts alone.
    """

    def decorate(parts: Callable[[StudyData], Iterator[Part]]) -> Callable[[StudyData], Section]:
        @wraps(parts)
        def whole(data: StudyData) -> Section:
            return Section(id_, heading, tuple(parts(data)), always)

        return whole

    return decorate


@dataclass(frozen=True)
class Notice:
    """A line above the figures; `level` is alert, caution, note or good."""

    level: str
    title: str
    text: str

    @staticmethod
    def filled(said: Mapping[str, str], **values: object) -> "Notice":
        """Makes a notice of texts with fields in braces, and what is filled in there."""
        level, title, text = (said[name].format(**values) for name in ("level", "title", "text"))
        return Notice(level, title, text)


def listed(names: Sequence[str]) -> str:
    """Returns names for a sentence, the first of them where there are many.

    >>> listed(["a", "b"]), listed([str(number) for number in range(9)])
    ('a, b', '0, 1, 2, 3, 4, 5 and 3 more')
    """
    if len(names) <= _NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
