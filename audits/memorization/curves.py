"""Curves over a run and figures of a checkpoint, from rows; numbers only, no text of a record."""

from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure

from audits.rows import ResultRow

# What tells rows of one metric apart, beside the metric's own options.
_NO_OPTIONS = {"against", "length", "n", "p"}
_GAP = "_gap"
_PRIMARY = "token_accuracy"
_REPEATED = "similarity_gap"


def curves(rows: Sequence[ResultRow]) -> dict[str, float]:
    """Returns the figures that are followed over a run, by TensorBoard tag.

    Gaps between members and their non-members, and of token accuracy what it is of each population
    as well. Rates of (n, p)-extraction are left to the figure: they are a curve over n at each
    checkpoint. The results table holds everything.
    """
    kept = [row for row in rows if row.value is not None and _is_followed(row)]
    tags = _tags(kept)
    return {tag: row.value for tag, row in zip(tags, kept, strict=True) if row.value is not None}


def _is_followed(row: ResultRow) -> bool:
    if row.task is not None or "length" in row.params or "n" in row.params:
        return False
    if row.metric in (_PRIMARY, _PRIMARY + _GAP):
        return True
    # Against records that nobody trained on stands token accuracy alone.
    gap = row.metric.endswith(_GAP) and row.params.get("against") != "never"
    return gap and row.metric != _REPEATED


def _tags(rows: Sequence[ResultRow]) -> list[str]:
    """Returns a tag for each row, with those options that tell rows of a metric apart."""
    named = _telling_options(rows)
    return [
        "/".join(
            ["memorization", str(row.population), row.metric, *named(row)]
            + ([f"against_{row.params['against']}"] if "against" in row.params else [])
        )
        for row in rows
    ]


def _telling_options(rows: Sequence[ResultRow]) -> Callable[[ResultRow], list[str]]:
    """Returns what names a row's options where rows of the same metric differ in them."""
    seen: dict[tuple[str, str], set[object]] = {}
    for row in rows:
        for name, value in row.params.items():
            seen.setdefault((row.metric, name), set()).add(value)

    def named(row: ResultRow) -> list[str]:
        options = sorted(set(row.params) - _NO_OPTIONS)
        telling = [name for name in options if len(seen[row.metric, name]) > 1]
        return ["-".join(f"{name}_{row.params[name]}" for name in telling)] if telling else []

    return named


def extraction_figures(rows: Sequence[ResultRow]) -> dict[str, Figure]:
    """Draws the share of records that are extractable with n samples, a line per population and p.

    Args:
        rows: Rows of populations; only extraction rates are drawn.

    Returns:
        One figure for every prefix and way of sampling, by TensorBoard tag.
    """
    lines: dict[str, dict[str, list[tuple[int, float]]]] = {}
    rates = [row for row in rows if row.metric == "extraction_rate"]
    named = _telling_options(rates)
    for row in rates:
        if row.value is not None:
            tag = "/".join(["memorization", row.name, *named(row)])
            line = f"{row.population}, p = {row.params['p']:g}"
            n = int(str(row.params["n"]))
            lines.setdefault(tag, {}).setdefault(line, []).append((n, row.value))
    return {tag: _extraction_figure(own, tag) for tag, own in lines.items()}


def _extraction_figure(lines: Mapping[str, Sequence[tuple[int, float]]], title: str) -> Figure:
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panel = figure.subplots()
    for name, points in sorted(lines.items()):
        samples, rates = zip(*sorted(points), strict=True)
        panel.plot(samples, rates, marker="o", markersize=3, label=name)
    panel.set_xscale("log")
    panel.set_xlabel("samples, n")
    panel.set_ylabel("share of records extractable")
    highest = max(rate for points in lines.values() for _, rate in points)
    panel.set_ylim(-0.05 * max(highest, 0.1), 1.1 * max(highest, 0.1))
    figure.legend(loc="outside right upper")
    figure.suptitle(title)
    return figure
