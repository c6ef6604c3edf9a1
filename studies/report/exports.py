"""What goes from a report into a paper: tables as LaTeX, charts as SVG and PNG."""

import copy
import json
from pathlib import Path

import vl_convert

from common.wording import inert_cell
from studies.report.charts import Spec
from studies.report.tables import PageTable

_CONTAINER_WIDTH = 640
_PIXELS_PER_POINT = 2.0
# As the page has it on a light screen: cold, none, warm.
_THEME = {"range": {"diverging": ["#2f7fc1", "#f1f1ed", "#c8501a"]}}
_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"−": "$-$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "·": r"$\cdot$", "—": "---"}
)


def latex(table: PageTable, caption: str) -> str:
    r"""Returns a table as its readers see it, as a ``longtable`` with the rules of ``booktabs``.

    Args:
        table: The table.
        caption: Plain text.

    Example:
        >>> import pandas as pd
        >>> from studies.report import tables
        >>> frame = pd.DataFrame({"share": ["50%"]})
        >>> table = tables.table("shares", "", tables.words(share="a_b"), frame, frame)
        >>> "a\\_b" in latex(table, "Shares"), "50\\% \\\\" in latex(table, "Shares")
        (True, True)
    """
    kinds = "".join("r" if column.numeric else "l" for column in table.columns)
    heading = " & ".join(column.title.translate(_ESCAPES) for column in table.columns)
    rows = []
    for row in table.rows:
        shown = zip(row, table.columns, strict=True)
        cells = (one.text if column.numeric else inert_cell(one.text) for one, column in shown)
        rows.append(" & ".join(cell.translate(_ESCAPES) for cell in cells) + r" \\")
    return "\n".join(
        [
            "% Needs \\usepackage{booktabs,longtable}.",
            f"\\begin{{longtable}}{{{kinds}}}",
            f"\\caption{{{caption.translate(_ESCAPES)}}}\\\\",
            "\\toprule",
            f"{heading} \\\\",
            "\\midrule",
            "\\endhead",
            *rows,
            "\\bottomrule",
            "\\end{longtable}",
            "",
        ]
    )


def write_charts(specs: dict[str, Spec], folder: Path) -> None:
    """Writes each chart as `<name>.svg` and `<name>.png`, on white.

    Args:
        specs: Vega-Lite specifications by name; a width of the page's container becomes 640 points.
        folder: Made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, spec in specs.items():
        fixed = copy.deepcopy(spec)
        if fixed.get("width") == "container":
            fixed["width"] = _CONTAINER_WIDTH
        text = json.dumps({**fixed, "background": "white", "config": _THEME})
        drawn = vl_convert.vegalite_to_svg(text)
        (folder / f"{name}.svg").write_text(drawn, encoding="utf-8")
        picture = vl_convert.svg_to_png(drawn, scale=_PIXELS_PER_POINT)
        (folder / f"{name}.png").write_bytes(picture)
