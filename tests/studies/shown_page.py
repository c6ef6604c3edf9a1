"""What tests of the report share: a page read back, more rows for a study, an AUROC by counting."""

from html.parser import HTMLParser
from types import ModuleType

import numpy as np

from audits.results import merge_parts, write_part
from studies.plan.cells import Plan


class Page(HTMLParser):
    """Collects table rows, links and the chart specifications."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.tag = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.tag = ""

    def handle_data(self, data: str) -> None:
        if self.tag == "td":
            self.rows[-1][-1] += data
        if self.tag == "script":
            self.scripts.append(data)


def pairs_won(members: np.ndarray, nonmembers: np.ndarray) -> float:
    won = sum((m > n) + 0.5 * (m == n) for m in members for n in nonmembers)
    return float(won) / (len(members) * len(nonmembers))


def add_rows(plan: Plan, planted: ModuleType, rows: list[dict[str, object]]) -> None:
    """Writes more rows about private records into the table of every cell."""
    for cell in plan.cells:
        shared = {
            **{"run": cell.alias, "role": cell.role, "step": planted.STEP, "audit": "membership"},
            **{"population": "private", "n_members": 90, "n_nonmembers": 90},
        }
        write_part(cell.run_dir, "results", planted.STEP, "more", [shared | row for row in rows])
        merge_parts(cell.run_dir)
