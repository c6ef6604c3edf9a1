"""What goes into a paper: LaTeX that holds what the page shows, pictures that hold the marks."""

import csv
import io
import re
import struct
from pathlib import Path

import pandas as pd
import pytest

from studies.report import tables
from studies.report.exports import latex, write_charts


def test_latex_has_every_cell_and_no_bare_special_character() -> None:
    frame = pd.DataFrame(
        {
            "name": ["student_kd", "100% of $5 #1 {a}~b^c\\d"],
            "AUROC": ["0.928 [0.898, 0.950]", "−0.1"],
        }
    )
    rows = frame["AUROC"]
    columns = [
        *tables.words(name="Model & role"),
        tables.Column("AUROC", lambda row: tables.TableCell(row["AUROC"])),
    ]
    text = latex(tables.table("membership", "", columns, frame, frame), "A study: membership")
    body = text[text.index("\\midrule") : text.index("\\bottomrule")]
    assert body.count(r"\\") == len(rows)
    assert text.count("&") == text.count(r"\&") + 1 + len(rows)
    assert "student\\_kd & 0.928 [0.898, 0.950] \\\\" in text
    assert "$-$0.1" in text
    for character in "%#$":
        bare = re.findall(rf"(?<!\\){re.escape(character)}", body.replace("$-$", ""))
        assert bare == []
    assert "{lr}" in text


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_words_is_a_formula_and_numbers_stay_numbers(begins: str) -> None:
    named = f"{begins}1+1|cmd"
    frame = pd.DataFrame(
        {"name": [named, "kd", None], "gap": [-0.25, 0.5, float("nan")], "n": [-1, 2, 3]}
    )
    columns = [*tables.words(name="Model"), tables.number("Gap", "gap", ".2f")]
    table = tables.table("gaps", "", columns, frame, frame)
    read = list(csv.reader(io.StringIO(table.csv(), newline="")))
    assert read == [
        ["name", "gap", "n"],
        ["'" + named.replace("\r", " "), "-0.25", "-1"],
        ["kd", "0.5", "2"],
        ["", "", "3"],
    ]
    assert "'" + named.replace("\r", " ") + " & -0.25" in latex(table, "")


def test_charts_are_written_as_vector_and_as_pixels(tmp_path: Path) -> None:
    points = [{"x": x, "y": x * x} for x in range(4)]
    spec = {
        "mark": "point",
        "width": "container",
        "height": 120,
        "data": {"values": points},
        "encoding": {
            "x": {"field": "x", "type": "quantitative"},
            "y": {"field": "y", "type": "quantitative", "title": "squares"},
        },
    }
    write_charts({"squares": spec}, tmp_path / "figures")
    svg = (tmp_path / "figures/squares.svg").read_text(encoding="utf-8")
    assert "squares" in svg
    assert len(re.findall(r'aria-roledescription="point"', svg)) == len(points)
    width, _ = struct.unpack(">II", (tmp_path / "figures/squares.png").read_bytes()[16:24])
    assert width > 2 * 640
    assert spec["width"] == "container"


def test_pictures_have_the_page_s_colours_of_cold_and_warm(tmp_path: Path) -> None:
    scale = {"domain": [0, 0.5, 1], "range": "diverging", "interpolate": "rgb"}
    spec = {
        "mark": "rect",
        "data": {"values": [{"value": 0.0}, {"value": 1.0}]},
        "encoding": {
            "y": {"field": "value", "type": "nominal"},
            "color": {"field": "value", "type": "quantitative", "scale": scale, "legend": None},
        },
    }
    write_charts({"heat": spec}, tmp_path)
    svg = (tmp_path / "heat.svg").read_text(encoding="utf-8")
    filled = re.findall(r'aria-label="value: ([01])"[^>]*fill="(rgb[^"]*|#\w+)"', svg)
    assert filled == [("0", "rgb(47, 127, 193)"), ("1", "rgb(200, 80, 26)")]
