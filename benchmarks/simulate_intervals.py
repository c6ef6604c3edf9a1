"""Coverage of every interval in `audits.statistics`, by simulation where the truth is known.

`python -m benchmarks.simulate_intervals` writes `benchmarks/results/intervals.md` and `.csv`. Each
cell draws from a population of known AUROC (or mean, or epsilon), asks for the 95% interval and
counts how often it holds the truth. Cells are keyed by their own name, so a cell's figure does not
depend on which others run: `--only STATISTIC` runs some and puts them beside the others' rows.
"""

import argparse
import csv
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from audits.statistics import auroc
from benchmarks.draw_cells import draw_cells
from benchmarks.exposure_cells import exposure_cells
from benchmarks.interval_cells import Cell, all_cells
from benchmarks.small_sample_cells import small_sample_cells

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """What a cell gave."""

    statistic: str
    setting: str
    n: int
    kind: str
    draws: int
    coverage: float
    lower_above_truth: float
    upper_below_truth: float
    mean_lower: float
    mean_width: float  # NaN for a one-sided bound
    target_low: float
    target_high: float
    met: bool


def run_cell(cell: Cell, draws: int, seed: int) -> Row:
    """Simulate one cell."""
    name = f"{cell.statistic}|{cell.setting}|{cell.n}"
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    count = max(1, round(draws * cell.share_of_draws))
    outcomes = [cell.draw(rng) for _ in range(count)]
    truth, lower, upper = (np.array([each[i] for each in outcomes], float) for i in range(3))
    above, below = float(np.mean(lower > truth)), float(np.mean(upper < truth))
    kinds = Counter(each[3] for each in outcomes)
    coverage = 1.0 - above - below
    met = cell.target[0] <= round(coverage, 6) <= cell.target[1]
    width = float(np.mean(upper - lower)) if np.isfinite(upper).all() else float("nan")
    kind = " + ".join(
        name if size == count else f"{name} {size / count:.0%}"
        for name, size in kinds.most_common()
    )
    return Row(
        statistic=cell.statistic,
        setting=cell.setting,
        n=cell.n,
        kind=kind,
        draws=count,
        coverage=coverage,
        lower_above_truth=above,
        upper_below_truth=below,
        mean_lower=float(lower.mean()),
        mean_width=width,
        target_low=cell.target[0],
        target_high=cell.target[1],
        met=met,
    )


def noise_line(draws: int, seed: int) -> str:
    """Mean AUROC of pure noise at 200 a side."""
    rng = np.random.default_rng([seed, zlib.crc32(b"noise")])
    areas = [auroc(rng.normal(size=200), rng.normal(size=200)).value for _ in range(draws)]
    error = np.std(areas, ddof=1) / draws**0.5
    return (
        f"Pure noise, 200 a side, {draws} draws: mean AUROC {np.mean(areas):.4f} "
        f"(standard error {error:.4f}; to reach: 0.500 +- 0.003)."
    )


def markdown(rows: list[Row], noise: str, command: str) -> str:
    """The page: one table per statistic."""
    missed = [row for row in rows if not row.met]
    lines = [
        "# Coverage of 95% intervals",
        "",
        f"Written by `{command}`.",
        "`lower > truth` and `upper < truth` are the two ways to miss. The standard error of a",
        "coverage of 0.95 is 0.007 with 1,000 draws.",
        "",
        "Targets: 0.93-0.97 for intervals that claim 95% at AUROC up to 0.95; at least 0.90 at",
        "AUROC 0.99 and 0.999; at least 0.93 where the interval is conservative by construction",
        "(operating points, which is FPR x n < 10; means of numbers in a range; clusters of very",
        "different sizes; ratios of leakages) and for TPR at AUROC 0.99 and 0.999; at least 0.95",
        "for one-sided bounds: on epsilon, and on differences in differences where nothing is",
        "inherited, so that chance is called inheritance in at most 5%; 0.86 with 3 noise draws",
        "and 0.88 with 5, which are too few to tell their own spread; 0.95 less two standard",
        "errors for right answers of the test that canaries were never met. Above its target a",
        "cell is wider than it need be; below it, it is not to be trusted.",
        "A mean lower end of -inf: some draws have no bounds, and exclude nothing.",
        "",
        noise,
        "",
        f"{len(rows) - len(missed)} of {len(rows)} cells within their target; "
        f"{sum(row.coverage < row.target_low for row in missed)} below it, "
        f"{sum(row.coverage > row.target_high for row in missed)} above it.",
    ]
    for statistic in dict.fromkeys(row.statistic for row in rows):
        lines += [
            "",
            f"## {statistic}",
            "",
            "| setting | n | interval | draws | coverage | lower > truth | upper < truth "
            "| mean lower | mean width | target | met |",
            "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |",
        ]
        lines += [
            f"| {r.setting} | {r.n} | {r.kind} | {r.draws} | {r.coverage:.3f} "
            f"| {r.lower_above_truth:.3f} | {r.upper_below_truth:.3f} "
            f"| {r.mean_lower:.4g} | {r.mean_width:.4g} "
            f"| {r.target_low:g}-{r.target_high:g} | {'yes' if r.met else 'NO'} |"
            for r in rows
            if r.statistic == statistic
        ]
    return "\n".join(lines) + "\n"


def earlier_rows(path: Path) -> dict[tuple[str, str, int], Row]:
    """The rows that a folder's intervals.csv holds, by cell."""
    kinds = {name: field.type for name, field in Row.__dataclass_fields__.items()}
    read = {int: int, float: float, bool: "True".__eq__, str: str}
    found = {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            row = Row(**{name: read[kinds[name]](text) for name, text in line.items()})
            found[row.statistic, row.setting, row.n] = row
    return found


def main() -> None:
    """Run the cells and write the two files."""
    parser = argparse.ArgumentParser(description="Simulate the coverage of every interval.")
    parser.add_argument("--draws", type=int, default=1000, help="draws per cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for intervals.md, .csv")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="STATISTIC",
        help="run these; keep the folder's other rows",
    )
    args = parser.parse_args()
    cells = [*all_cells(), *draw_cells(), *exposure_cells(), *small_sample_cells()]
    names = {cell.statistic for cell in cells}
    if unknown := sorted(set(args.only or ()) - names):
        parser.error(f"no statistic {', '.join(unknown)}: known are {', '.join(sorted(names))}")
    rows = earlier_rows(args.out / "intervals.csv") if args.only else {}
    chosen = [cell for cell in cells if not args.only or cell.statistic in args.only]
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    start = time.perf_counter()
    with Progress(*columns) as progress:
        task = progress.add_task("intervals", total=len(chosen))
        for cell in chosen:
            progress.update(task, description=f"{cell.statistic}: {cell.setting}, n {cell.n}")
            rows[cell.statistic, cell.setting, cell.n] = run_cell(cell, args.draws, args.seed)
            progress.advance(task)
        progress.console.print(f"{len(chosen)} cells in {time.perf_counter() - start:.0f} s")
    keys = [(cell.statistic, cell.setting, cell.n) for cell in cells]
    ordered = [rows[key] for key in keys if key in rows]
    args.out.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.simulate_intervals --draws {args.draws} --seed {args.seed}"
    page = markdown(ordered, noise_line(args.draws, args.seed), command)
    (args.out / "intervals.md").write_text(page)
    with (args.out / "intervals.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(Row.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(vars(row) for row in ordered)


if __name__ == "__main__":
    main()
