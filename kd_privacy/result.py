"""What an audit found: printed, indexed by attack, drawn, saved."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import jinja2
import pandas as pd
import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure

from audits.context import Measurements
from audits.known_text import warnings_of
from audits.membership.metrics import ScoredRecords, area
from audits.membership.score_rows import ScoreRows
from audits.membership.worst_task import WORST_TASK
from audits.model_card.markdown import Row, figure_text, options_text
from audits.model_card.privacy_section import ATTACK_COLUMNS, GAP_COLUMNS, attack_lines, gap_lines
from audits.results import SCHEMAS, table_from_rows, write_table
from audits.statistics import Estimate, TprEstimate, tpr_at_fpr
from audits.statistics.verdict import RULES
from common.atomic_file import replacing
from common.errors import UserError

_INTERVAL = " [95% interval]"
_EVOLUTION = "/evolution"
"""Ends the name of a figure over several checkpoints, which one audit does not have."""
_PAGE = "audit_page.html"


@dataclass(frozen=True)
class AttackResult:
    """One attack's scores of members and non-members.

    Attributes:
        name: The attack's id, with its options where it has any.
        members: Scores of the members.
        nonmembers: Scores of the non-members.
        level: Level of the intervals.
    """

    name: str
    members: ScoredRecords
    nonmembers: ScoredRecords
    level: float

    @property
    def auroc(self) -> Estimate:
        """The chance that a random member scores above a random non-member, with its interval."""
        return area(self.members, self.nonmembers, self.level)

    def tpr_at_fpr(self, fpr: float) -> TprEstimate:
        """Returns the share of members that are found at a false-positive rate."""
        return tpr_at_fpr(
            self.members.scores,
            self.nonmembers.scores,
            fpr,
            self.level,
            member_clusters=self.members.clusters,
            nonmember_clusters=self.nonmembers.clusters,
        )


@dataclass(frozen=True)
class Audit:
    """What the audit of one model found; made by `kd_privacy.audit`.

    Attributes:
        tables: The tables results, scores and memorization, in the schemas of `audits.results`.
        attacks: Result of every attack, by its id with its options.
        warnings: What must be known before a figure is read.
        figures: Figures by name.
    """

    tables: Mapping[str, pa.Table]
    attacks: Mapping[str, AttackResult]
    warnings: Sequence[str]
    figures: Mapping[str, Figure]

    @classmethod
    def of(
        cls,
        found: Mapping[str, Measurements],
        identity: Mapping[str, object],
        level: float,
        warnings: Sequence[str],
    ) -> "Audit":
        """Puts together what the audits of a model found.

        Args:
            found: Measurements by the audit's name.
            identity: Columns that all rows share: run, role, seed, step.
            level: Level of the intervals of the attacks' estimates.
            warnings: What must be known before a figure is read.
        """
        each = [own.tables(identity, audit) for audit, own in found.items()]
        rows = {name: chain(*(own.get(name, ()) for own in each)) for name in SCHEMAS}
        tables = {name: _sorted(name, table_from_rows(name, rows[name])) for name in SCHEMAS}
        figures = {
            name: figure
            for own in found.values()
            for name, figure in own.figures.items()
            if not name.endswith(_EVOLUTION)
        }
        guesses = warnings_of(tables["results"].to_pylist())
        scores = found["membership"].scores
        attacks = _attacks(scores, level) if isinstance(scores, ScoreRows) else {}
        return cls(tables, attacks, [*guesses, *warnings], figures)

    @cached_property
    def results(self) -> pd.DataFrame:
        """Every figure with its interval, the columns of results.parquet."""
        return self.tables["results"].to_pandas()

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Every record's score under every attack, the columns of scores.parquet."""
        return self.tables["scores"].to_pandas()

    @cached_property
    def memorization(self) -> pd.DataFrame:
        """What the model wrote of every record, the columns of memorization.parquet."""
        return self.tables["memorization"].to_pandas()

    def __getitem__(self, attack: str) -> AttackResult:
        """Returns an attack's result by its id, such as ``loss`` or ``min_k``.

        Raises:
            UserError: There is none, or several with different options, which are then part of the
                name, such as ``min_k (k=0.1)``.
        """
        named = [one for label, one in self.attacks.items() if attack in (label, label.split()[0])]
        if len(named) != 1:
            known = ", ".join(self.attacks)
            reason = "several attacks are" if named else "no attack is"
            raise UserError(f"{reason} named {attack!r}; there are {known}")
        return named[0]

    def __str__(self) -> str:
        """Verdicts, intervals and counts, and what could not be said."""
        text = []
        for title, header, lines in self._sections():
            text += ["", f"{title}: figures with 95% intervals"]
            for name, compared, *figures, members, nonmembers, _, verdict in lines:
                named = zip(header[2:], figures, strict=False)  # the counts follow below
                told = "; ".join(f"{one.removesuffix(_INTERVAL)} {figure}" for one, figure in named)
                units = "subjects" if "unit=subject" in str(name) else "records"
                text += [
                    f"  {name}, {compared}: {told}; {members} + {nonmembers} {units}",
                    f"      {verdict}",
                ]
        text += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(text).strip()

    __repr__ = __str__

    @property
    def notes(self) -> list[str]:
        """What must be known before a figure is read, and what could not be said."""
        whole = [row for row in self._rows() if row["audit"] == "membership"]
        attacks = [row for row in whole if row["metric"] == "auroc" and row["name"] != "blind"]
        skipped = max((int(str(row["skipped"] or 0)) for row in attacks), default=0)
        missing: dict[str, list[str]] = {}
        for row in whole:
            if row["value"] is None and row["lower"] is None and row["upper"] is None:
                names = missing.setdefault(str(row["metric"]), [])
                names.append(f"{row['name']}{options_text(row)}")
        notes = list(self.warnings)
        if skipped:
            notes.append(f"{skipped} record(s) have no response that could be scored")
        if worst := self._worst_tasks():
            notes.append(f"worst task, named by one half of the records: {'; '.join(worst)}")
        return notes + [
            f"too few records to measure {metric} of {', '.join(names)}"
            for metric, names in missing.items()
        ]

    def _worst_tasks(self) -> list[str]:
        """Returns each attack's worst task with its AUROC."""
        rows = [r for r in self.tables["results"].to_pylist() if r["metric"] == WORST_TASK]
        rows = [r for r in rows if "unit" not in r["params"]]
        return [f"{r['name']}{options_text(r)} {r['task']} {figure_text(r)}" for r in rows]

    def plot(self) -> Figure:
        """Returns the ROC curves of all attacks, on linear and on logarithmic axes."""
        return next(figure for name, figure in self.figures.items() if name.endswith("/roc"))

    def save(self, folder: str | Path) -> Path:
        """Writes the tables and a page that anybody can open; no text of a record is in them.

        Args:
            folder: Where results.parquet, scores.parquet, index.html and, where it was measured,
                memorization.parquet go, in the place of an earlier audit's; made if it is not
                there.

        Returns:
            Path of the page.

        Raises:
            UserError: There is a file of that name.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file: name a folder, which need not be there")
        for name, table in self.tables.items():
            path = folder / f"{name}.parquet"
            if table.num_rows or name != "memorization":
                write_table(table, path)
            else:
                path.unlink(missing_ok=True)
        page = _template().render(
            sections=self._sections(),
            notes=self.notes,
            rules=RULES,
            figures=[(name, Markup(_svg(figure))) for name, figure in self.figures.items()],
        )
        path = folder / "index.html"
        with replacing(path) as file:
            file.write(page.encode("utf-8"))
        return path

    def _rows(self) -> list[Row]:
        """Returns the rows over all tasks and blocks."""
        rows = self.tables["results"].to_pylist()
        return [row for row in rows if row["task"] is None and row["block"] is None]

    def _sections(self) -> list[tuple[str, Sequence[str], Sequence[Sequence[object]]]]:
        """Returns title, columns and lines of each table."""
        rows = self._rows()
        membership, memorization = (
            [row for row in rows if row["audit"] == audit]
            for audit in ("membership", "memorization")
        )
        tables = [
            ("Membership", ATTACK_COLUMNS, attack_lines(membership)),
            ("Memorization", GAP_COLUMNS, gap_lines(memorization, membership)),
        ]
        return [table for table in tables if table[2]]


def _sorted(name: str, table: pa.Table) -> pa.Table:
    """Returns a table in the order of a run's tables, which depends on the rows alone."""
    return table.sort_by([(column, "ascending") for column in SCHEMAS[name].names])


def _attacks(scores: ScoreRows, level: float) -> dict[str, AttackResult]:
    """Returns every attack's result by its id with its options."""
    sides: dict[str, dict[str, ScoredRecords]] = {}
    for attack, params, scored in scores.scored:
        options = ", ".join(f"{key}={value}" for key, value in params.items())
        label = f"{attack} ({options})" if options else attack
        sides.setdefault(label, {})[scored.population] = scored
    return {
        label: AttackResult(label, both["external"], both["held_out"], level)
        for label, both in sides.items()
    }


def _svg(figure: Figure) -> str:
    """Returns a figure as an SVG element."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True).get_template(_PAGE)
