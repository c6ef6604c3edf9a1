"""Seconds of one distillation step: ours through Lightning against TRL's GKDTrainer.

`python -m benchmarks.training_step` writes `benchmarks/results/training_step.json` and `.md`. Batch
4, a student of 6 x 256 and a teacher of 8 x 512, GPT-2-shaped with a vocabulary of 50,257, float32,
Dolly records in the Alpaca template (prompt and response of at most 256 tokens each). Every way
trains the same weights on the same records in the same batches with AdamW and logs every step to
TensorBoard. A figure is the time between the ends of optimiser steps, the first step left out; in
every round each way runs once, in turn, in one process, and a ratio is the median of its rounds'
ratios, so only ratios are to be quoted. Where TRL is not installed, our rendition of its step
stands in, and the table says so.
"""

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
import transformers

from benchmarks.lightning_step import Case, Run, Workplace, fit, prepare
from benchmarks.scoring import DOLLY, GPT2_TOKENIZER, describe_machine
from benchmarks.trl_step import is_installed, train_with_rendition, train_with_trl

RESULTS = Path(__file__).parent / "results"
OURS, TRL, RENDITION = "ours", "TRL", "rendition of TRL's step"
CASES = (
    Case("off-policy, forward KL", beta=0.0, on_policy=False, target=0.30),
    Case("off-policy, jsd(0.5)", beta=0.5, on_policy=False, target=0.30),
    Case("on-policy, jsd(0.5)", beta=0.5, on_policy=True, target=0.60),
)
STUDENT, TEACHER = (6, 256, 4), (8, 512, 8)
LOSS_TOLERANCE = 0.05


@dataclass(frozen=True)
class Row:
    """What one way took in one case.

    Attributes:
        case: Its name.
        way: Whose step.
        seconds: Median over rounds of the mean time of a step.
        ratio: Median over rounds of our time over this way's.
        target: Most that the ratio may be, or None where it is not this way that was to be beaten.
    """

    case: str
    way: str
    seconds: float
    ratio: float
    target: float | None

    @property
    def verdict(self) -> str:
        """Met, missed, or nothing where there is no target."""
        if self.target is None:
            return ""
        return "met" if self.ratio <= self.target else "missed"


def measure(
    case: Case, place: Workplace, rounds: int, steps: int, ways: Sequence[str]
) -> dict[str, list[Run]]:
    """Runs of every way; round r trains all of them on the batches of seed r.

    Raises:
        RuntimeError: Two ways report different losses, so that their times say nothing.
    """
    theirs: dict[str, Callable[[Case, Workplace, list], Run]] = {
        TRL: train_with_trl,
        RENDITION: train_with_rendition,
    }
    runs: dict[str, list[Run]] = {way: [] for way in (OURS, *ways)}
    for seed in range(rounds):
        report(f"{case.name}, round {seed + 1} of {rounds}: {', '.join(runs)}")
        mine = fit(case, place, steps, seed)
        runs[OURS].append(mine)
        for way in ways:
            runs[way].append(theirs[way](case, place, mine.batches))
        require_same_work(case, {way: done[-1] for way, done in runs.items()}, steps)
    return runs


def require_same_work(case: Case, runs: dict[str, Run], steps: int) -> None:
    """Compares the number of steps and, off-policy, the losses of one round.

    Off-policy losses differ by a little for a reason of TRL's: it pads on the left and leaves
    position ids to the model, which counts the padding. On-policy each way draws its own responses,
    and TRL divides by the tokens of the responses that it replaced.

    Raises:
        RuntimeError: They differ by more than 5%, or a way took another number of steps.
    """
    for way, run in runs.items():
        if (len(run.seconds), len(run.losses)) != (steps, steps + 1):
            raise RuntimeError(f"{case.name}: {way} took {len(run.losses)} steps, not {steps + 1}")
    if case.on_policy:
        return
    for way, run in runs.items():
        for mine, other in zip(runs[OURS].losses, run.losses, strict=True):
            if abs(other - mine) > LOSS_TOLERANCE * mine:
                raise RuntimeError(f"{case.name}: {way} has loss {other:.4f}, ours is {mine:.4f}")


def compare(case: Case, runs: dict[str, list[Run]]) -> list[Row]:
    """Rows of one case; the target is against TRL, or else against the rendition."""
    means = {way: [statistics.fmean(run.seconds) for run in rounds] for way, rounds in runs.items()}
    rival = TRL if TRL in runs else RENDITION
    return [
        Row(
            case.name,
            way,
            statistics.median(seconds),
            statistics.median(a / b for a, b in zip(means[OURS], seconds, strict=True)),
            case.target if way == rival else None,
        )
        for way, seconds in means.items()
    ]


def as_markdown(rows: Sequence[Row], setting: dict[str, object]) -> str:
    """The table, with what it was measured on."""
    lines = [
        "# One distillation step",
        "",
        ", ".join(f"{key} {value}" for key, value in setting.items()),
        "",
        "| case | way | s/step | ours over it | target | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        target = "" if row.target is None else f"{row.target:.2f}"
        numbers = f"{row.seconds:.2f} | {row.ratio:.2f} | {target}"
        lines.append(f"| {row.case} | {row.way} | {numbers} | {row.verdict} |")
    return "\n".join(lines) + "\n"


def report(line: str) -> None:
    """Writes a line of progress to standard error."""
    sys.stderr.write(line + "\n")


def quieten() -> None:
    """Silences what the trainers say of themselves, so that the table can be read."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_step",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="rounds of each case")
    add("--steps", type=int, default=4, help="timed optimiser steps of a round")
    add("--threads", type=int, default=os.cpu_count() or 1, help="torch threads")
    add("--batch_size", type=int, default=4, help="records of a step")
    add("--new_tokens", type=int, default=64, help="longest response, on-policy")
    add("--cases", nargs="+", default=[case.name for case in CASES], help="which to run, by name")
    add("--student", type=int, nargs=3, default=STUDENT, help="layers, width, heads")
    add("--teacher", type=int, nargs=3, default=TEACHER, help="layers, width, heads")
    add("--vocabulary", type=int, default=50257, help="rows of the heads without a tokenizer")
    add("--n_records", type=int, default=400, help="records to read")
    add(
        "--records",
        default=str(DOLLY) if DOLLY.is_file() else None,
        help="file, folder or hub name; None: built-in corpus",
    )
    add(
        "--tokenizer",
        default=str(GPT2_TOKENIZER) if GPT2_TOKENIZER.is_dir() else None,
        help="folder or hub name; None: trained on the records, then filled up to --vocabulary",
    )
    add("--no_rendition", action="store_true", help="leave the rendition out where TRL is there")
    add("--out", type=Path, default=RESULTS, help="folder for both files")
    return parser.parse_args(arguments)


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """The cases that were named, with the sizes of the command line.

    Raises:
        SystemExit: A case has no such name.
    """
    unknown = set(options.cases) - {case.name for case in CASES}
    if unknown:
        known = "; ".join(case.name for case in CASES)
        raise SystemExit(f"no case {', '.join(sorted(unknown))}: there are {known}")
    sizes = {"batch_size": options.batch_size, "new_tokens": options.new_tokens}
    return [replace(case, **sizes) for case in CASES if case.name in options.cases]


def describe(options: argparse.Namespace) -> dict[str, object]:
    """What the figures were measured on and with."""
    return {
        "batch": options.batch_size,
        "student": "{} x {}".format(*options.student),
        "teacher": "{} x {}".format(*options.teacher),
        "records": Path(options.records).name if options.records else "built-in",
        "rounds": options.rounds,
        "steps": options.steps,
        "TRL": version("trl") if is_installed() else "not installed",
        **describe_machine(),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes both files, and prints the table last."""
    options = parse(arguments)
    cases = chosen_cases(options)
    torch.set_num_threads(options.threads)
    quieten()
    ways = [TRL] if is_installed() else []
    if not (ways and options.no_rendition):
        ways.append(RENDITION)
    measured: dict[str, dict[str, list[Run]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = prepare(
            Path(folder),
            options.records,
            options.tokenizer,
            options.n_records,
            options.vocabulary,
            (tuple(options.student), tuple(options.teacher)),
        )
        for case in cases:
            measured[case.name] = measure(case, place, options.rounds, options.steps, ways)
    rows = [row for case in cases for row in compare(case, measured[case.name])]
    setting = describe(options)
    table = as_markdown(rows, setting)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "training_step.md").write_text(table)
    content = {
        "setting": setting,
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
        "seconds": {
            name: {way: [run.seconds for run in rounds] for way, rounds in runs.items()}
            for name, runs in measured.items()
        },
    }
    (options.out / "training_step.json").write_text(json.dumps(content, indent=1) + "\n")
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
