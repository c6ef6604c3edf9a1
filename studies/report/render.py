"""The page of a study, of one model and of a pair: one template, the answer first."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from audits.answer import Answer
from audits.answer.answer import VERDICT_NAMES
from audits.statistics.verdict import RULES
from studies.report.charts import Spec
from studies.report.glossary import Marker
from studies.report.labels import owner, plain
from studies.report.parts import Notice, Section
from studies.report.tables import TableCell

_HERE = Path(__file__).parent
_MARKS = ((r"\*\*(.+?)\*\*", "strong"), (r"\*(.+?)\*", "em"), (r"`(.+?)`", "code"))
_LEVELS = {"leaks": "alert", "reversed": "caution", "undecided": "note", "clean": "good"}


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes:
        title: Its title.
        about: A line above it: what was audited.
        answer: What is told first.
        notices: What must be known of it, the gravest first.
        groups: Sections by what they answer; each group opens on a click.
    """

    title: str
    about: str
    answer: Answer
    notices: Sequence[Notice]
    groups: Mapping[str, Sequence[Section]]


def render(page: Page) -> str:
    """Returns the page as HTML that holds everything it shows and asks nothing of the network."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    marker = Marker()
    environment.filters["words"] = _words
    environment.filters["terms"] = lambda text: marker.marked(_words(text))
    environment.filters["plain"] = plain
    environment.filters["owner"] = _owner
    environment.filters["kind"] = lambda part: type(part).__name__
    groups = {
        title: [section for section in sections if section.shown]
        for title, sections in page.groups.items()
    }
    every = [section for sections in page.groups.values() for section in sections]
    specs = {name: spec for section in every for name, spec in section.charts.items()}
    return environment.get_template("page.html").render(
        page=page,
        answer=page.answer,
        groups=groups,
        tables={name: own for section in every for name, own in section.appendix.items()},
        names=VERDICT_NAMES,
        levels=_LEVELS,
        rules=RULES,
        new_part=marker.start,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        specs=_json(specs),
        owners=_json(_owners(specs)),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        vega=Markup(vega_bundle() if specs else ""),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
    )


def _json(content: object) -> Markup:
    """Returns JSON that stands in a script element, which a `<` in a text could end."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _owner(shown: str | Sequence[TableCell]) -> str:
    """Returns whose run a counterfactual label or a table's row of one stands under; else ""."""
    label = shown if isinstance(shown, str) else shown[0].text
    return owner(label.partition(" (")[0]) or ""


def _owners(specs: Mapping[str, Spec]) -> dict[str, str]:
    """Returns whose run each counterfactual one in the charts' data stands under, by label."""
    labels: set[str] = set()
    for spec in specs.values():
        datasets = spec.get("datasets")
        for rows in datasets.values() if isinstance(datasets, dict) else ():
            labels |= {str(row.get(name)) for row in rows for name in ("label", "panel")}
    return {label: own for label in sorted(labels) if (own := owner(label))}


def _words(text: str) -> Markup:
    """Returns a text of `parts` as HTML, in the words of readers but for what is code."""
    if isinstance(text, Markup):
        return text
    pieces = re.split(r"(`[^`]+`)", text)
    html = str(escape("".join(one if one[:1] == "`" else plain(one) for one in pieces)))
    for pattern, tag in _MARKS:
        html = re.sub(pattern, rf"<{tag}>\1</{tag}>", html)
    return Markup(html.replace("\n\n", "<br>"))


@cache
def vega_bundle() -> str:
    """Returns the charts' JavaScript, the same for every page and seconds in the making."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")
