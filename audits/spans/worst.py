"""The spans that a model gives away first, by id, for the owner of the records alone."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from audits.memorization.metrics.n_p_extraction import samples_needed
from audits.spans.names import EVEN_CHANCE, GIVEN, SPAN
from common.atomic_file import make_private, replacing

FILE_NAME = "worst_spans.csv"
SHOWN = 10
_COLUMNS = ("record", "span", "type", "tokens", "log_probability", "samples_for_an_even_chance")


def worst_spans(rows: Iterable[Mapping[str, object]], population: str) -> list[dict[str, object]]:
    """Returns the ten likeliest spans of a population, asked for by their instruction.

    Args:
        rows: Of the memorization table, one model's, params read.
        population: The members'.
    """
    found = []
    for row in rows:
        params, value = row["params"], row["value"]
        if row["name"] != SPAN or row["population"] != population or value is None:
            continue
        if isinstance(params, Mapping) and params["given"] == GIVEN[1]:
            logp = float(str(value))
            needed = float(samples_needed([logp], EVEN_CHANCE)[0])
            told = f"{needed:.0f}" if math.isfinite(needed) else "more than can be counted"
            entry = (row["record"], params["span"], params["type"], row["n_tokens"], logp, told)
            found.append(dict(zip(_COLUMNS, entry, strict=True)))
    return sorted(found, key=lambda one: (-float(str(one["log_probability"])), str(one["record"])))[
        :SHOWN
    ]


def write_worst_spans(rows: Iterable[Mapping[str, object]], population: str, folder: Path) -> None:
    """Writes the worst spans into a private folder, in the place of an earlier audit's.

    Args:
        rows: As in `worst_spans`.
        population: The members'.
        folder: Created with mode 0700 where it is missing.
    """
    text = io.StringIO()
    lines = csv.DictWriter(text, _COLUMNS)
    lines.writeheader()
    lines.writerows(worst_spans(rows, population))
    make_private(folder)
    with replacing(folder / FILE_NAME) as file:
        file.write(text.getvalue().encode("utf-8"))
