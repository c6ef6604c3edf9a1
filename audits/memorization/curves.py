"""Curves over a run and figures of a checkpoint, from rows; numbers only, no text of a record."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from audits.rows import ResultRow, tagged

# What tells rows of one metric apart, beside the metric's own options.
_NO_OPTIONS = {"against", "length", "n", "p"}


def curves(rows: Sequence[ResultRow]) -> dict[str, float]:
    """Returns the values of all rows over whole populations by TensorBoard tag.

    Rates of (n, p)-extraction are left to the figure: they are a curve over n at each checkpoint.
    """
    found: dict[str, float] = {}
    for row in rows:
        if row.task is None and "length" not in row.params and "n" not in row.params:
            found |= tagged(_tag(row), row)
    return found


def _tag(row: ResultRow) -> str:
    against = row.params.get("against")
    parts = [str(row.population), *_metric_parts(row), row.metric]
    return "/".join(["memorization", *parts, *([f"against_{against}"] if against else [])])


def _metric_parts(row: ResultRow) -> list[str]:
    """Returns the metric's id, and its options where it has some."""
    options = [f"{name}_{row.params[name]}" for name in sorted(set(row.params) - _NO_OPTIONS)]
    return [row.name, *(["-".join(options)] if options else [])]


def extraction_figures(rows: Sequence[ResultRow]) -> dict[str, Figure]:
    """Draws the share of records that are extractable with n samples, a line per population and p.

    Args:
        rows: Rows of populations; only extraction rates are drawn.

    Returns:
        One figure for every prefix and way of sampling, by TensorBoard tag.
    """
    lines: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        if row.metric == "extraction_rate" and row.value is not None:
            tag = "/".join(["memorization", *_metric_parts(row)])
            line = f"{row.population}, p = {row.params['p']:g}"
            n = int(str(row.params["n"]))
            lines.setdefault(tag, {}).setdefault(line, []).append((n, row.value))
    return {tag: _extraction_figure(own, tag) for tag, own in lines.items()}


def _extraction_figure(lines: Mapping[str, Sequence[tuple[int, float]]], title: str) -> Figure:
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    panel = figure.subplots()
    for name, points in sorted(lines.items()):
        samples, rates = zip(*sorted(points), strict=True)
        panel.plot(samples, rates, marker="o", markersize=3, label=name)
    panel.set_xscale("log")
    panel.set_xlabel("samples, n")
    panel.set_ylabel("share of records extractable")
    panel.legend(loc="upper left", fontsize="small")
    figure.suptitle(title, fontsize="small")
    return figure
