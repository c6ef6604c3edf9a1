"""Time and memory of KD objectives from hidden states, forward and backward, against other codes.

`python -m benchmarks.distillation` writes `benchmarks/results/distillation.json` and `.md`: the
objective table of the performance page, with all positions scored and with the share that real
batches score. Only ratios within one run count. Times are medians over rounds in which every form
runs once, in turn, in one process; a ratio is the median of its rounds' ratios. Memory is the
allocator's high-water mark above the inputs, each form in a fresh process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.objective_forms import Case, Form, Setting, all_forms
from benchmarks.scoring import describe_machine

RESULTS = Path(__file__).parent / "results"
TIME_TARGETS = {
    ("forward_kl", "published"): 0.90,
    ("skew_reverse_kl", "published"): 0.55,
    ("js", "published"): 0.42,
    ("js", "TRL"): 0.32,
}
MEMORY_TARGETS = {
    ("forward_kl", "published"): 0.13,
    ("skew_reverse_kl", "published"): 0.06,
    ("js", "published"): 0.06,
}


@dataclass(frozen=True)
class Row:
    """What one form cost.

    Attributes:
        scored: Share of positions scored.
        form: Objective and way.
        seconds: Median over rounds.
        over_floor: Median ratio of times to the two head products.
        peak_mb: Allocator's high-water mark above the inputs, 10^6 bytes.
        skipped: Why it did not run, or None.
    """

    scored: float
    form: str
    seconds: float | None
    over_floor: float | None
    peak_mb: float | None
    skipped: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Our form of an objective over another's, and what was to be reached."""

    scored: float
    objective: str
    against: str
    measure: str
    ratio: float
    target: float | None

    @property
    def verdict(self) -> str:
        """Met, missed, or nothing where there is no target."""
        if self.target is None:
            return ""
        return "met" if self.ratio <= self.target else "missed"


def run_once(form: Form, case: Case) -> float:
    """Forward and backward of one form; returns its seconds and leaves the head's gradient."""
    case.hidden.grad = case.weight.grad = None
    start = time.perf_counter()
    form.compute(case).backward()
    return time.perf_counter() - start


def check_gradients(forms: list[Form], case: Case) -> None:
    """Runs every form once and compares the heads' gradients of one objective.

    Raises:
        RuntimeError: Two forms of one objective disagree, so that their times say nothing.
    """
    first: dict[str, torch.Tensor] = {}
    for form in forms:
        run_once(form, case)
        grad = case.weight.grad
        if grad is None:
            raise RuntimeError(f"{form.name} gives the head no gradient")
        known = first.setdefault(form.objective, grad)
        if (grad - known).norm() > 1e-3 * known.norm():
            raise RuntimeError(f"{form.name} has another gradient than the first form")


def measure_times(forms: list[Form], case: Case, rounds: int) -> dict[str, list[float]]:
    """Seconds of each form in each round."""
    check_gradients(forms, case)
    seconds: dict[str, list[float]] = {form.name: [] for form in forms}
    for _ in range(rounds):
        for form in forms:
            seconds[form.name].append(run_once(form, case))
    return seconds


def measure_peak_bytes(form: Form, case: Case) -> int:
    """Allocator's high-water mark of one forward and backward above what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run_once(form, case)
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def in_fresh_process(arguments: list[str]) -> Any:
    """Runs this module as a worker and returns what it printed as JSON.

    Raises:
        RuntimeError: The worker failed.
    """
    command = [sys.executable, "-m", "benchmarks.distillation", *arguments]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace, setting: Setting) -> tuple[list[Row], list[Comparison]]:
    """Both measures of every form at one share of scored positions."""
    forms = all_forms(options.chunk_tokens)
    runnable = [form for form in forms if form.skipped is None]
    shared = ["--threads", str(options.threads), "--setting", json.dumps(asdict(setting))]
    if options.chunk_tokens:
        shared += ["--chunk_tokens", str(options.chunk_tokens)]
    report(f"time, {setting.scored:.0%} scored, {options.rounds} rounds of {len(runnable)} forms")
    timed = in_fresh_process([*shared, "--worker", "time", "--rounds", str(options.rounds)])
    peaks = {}
    for form in runnable:
        report(f"memory, {setting.scored:.0%} scored, {form.name}")
        peaks[form.name] = in_fresh_process([*shared, "--worker", form.name]) / 1e6
    floor = timed[runnable[0].name]
    rows = [
        Row(setting.scored, form.name, None, None, None, form.skipped)
        if form.skipped
        else Row(
            setting.scored,
            form.name,
            statistics.median(timed[form.name]),
            median_ratio(timed[form.name], floor),
            peaks[form.name],
        )
        for form in forms
    ]
    return rows, compare(setting, runnable, timed, peaks)


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """Median over rounds of one form's time over another's."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def compare(
    setting: Setting,
    forms: list[Form],
    timed: dict[str, list[float]],
    peaks: dict[str, float],
) -> list[Comparison]:
    """Our form over every other form of the same objective."""
    found = []
    for other in forms:
        mine = f"{other.objective}: ours"
        if other.way.startswith("ours") or mine not in timed:
            continue
        key = (other.objective, other.way)
        for measure_name, ratio, targets in (
            ("time", median_ratio(timed[mine], timed[other.name]), TIME_TARGETS),
            ("memory", peaks[mine] / peaks[other.name], MEMORY_TARGETS),
        ):
            found.append(Comparison(setting.scored, *key, measure_name, ratio, targets.get(key)))
    return found


def as_markdown(rows: list[Row], comparisons: list[Comparison], machine: dict[str, object]) -> str:
    """Both tables, with what they were measured on."""

    def cell(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    lines = [
        "# KD objectives from hidden states, forward and backward",
        "",
        ", ".join(f"{key} {value}" for key, value in machine.items()),
        "",
        "| scored | objective: form | s | x floor | peak MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        name = f"{row.form} (skipped: {row.skipped})" if row.skipped else row.form
        numbers = [cell(row.seconds, 2), cell(row.over_floor, 2), cell(row.peak_mb, 0)]
        lines.append(f"| {row.scored:.0%} | {name} | {' | '.join(numbers)} |")
    lines += [
        "",
        "| scored | objective | ours over | measure | ratio | target | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for c in comparisons:
        lines.append(
            f"| {c.scored:.0%} | {c.objective} | {c.against} | {c.measure} | {c.ratio:.3f} | "
            f"{cell(c.target, 2)} | {c.verdict} |"
        )
    return "\n".join(lines) + "\n"


def report(line: str) -> None:
    """Writes a line of progress to standard error."""
    sys.stderr.write(line + "\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4, help="records")
    parser.add_argument("--tokens", type=int, default=512, help="positions per record")
    parser.add_argument("--vocabulary", type=int, default=50257, help="rows of both heads")
    parser.add_argument("--student_width", type=int, default=256)
    parser.add_argument("--teacher_width", type=int, default=512)
    parser.add_argument(
        "--scored", type=float, nargs="+", default=[1.0, 0.45], help="shares of positions scored"
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds over all forms")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads")
    parser.add_argument("--chunk_tokens", type=int, help="chunk of our forms; default by machine")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for both files")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--setting", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def work(options: argparse.Namespace) -> object:
    """What a fresh process measures: all times, or the peak of the form that is named."""
    case = Case(Setting(**options.setting))
    forms = [form for form in all_forms(options.chunk_tokens) if form.skipped is None]
    if options.worker == "time":
        return measure_times(forms, case, options.rounds)
    return measure_peak_bytes(next(f for f in forms if f.name == options.worker), case)


def main(arguments: list[str] | None = None) -> None:
    """Measures, or works for a measuring process."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    if options.worker:
        sys.stdout.write(json.dumps(work(options)) + "\n")
        return
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    shape = (options.batch, options.tokens, options.vocabulary)
    for scored in options.scored:
        setting = Setting(*shape, options.student_width, options.teacher_width, scored)
        new_rows, new_comparisons = measure(options, setting)
        rows += new_rows
        comparisons += new_comparisons
    machine: dict[str, object] = {
        **{"B": options.batch, "T": options.tokens, "V": options.vocabulary},
        "widths": f"{options.student_width} and {options.teacher_width}",
        "rounds": options.rounds,
        **describe_machine(),
    }
    table = as_markdown(rows, comparisons, machine)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "distillation.md").write_text(table)
    content = {
        "machine": machine,
        "forms": [asdict(row) for row in rows],
        "comparisons": [{**asdict(c), "verdict": c.verdict} for c in comparisons],
    }
    (options.out / "distillation.json").write_text(json.dumps(content, indent=1) + "\n")
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
