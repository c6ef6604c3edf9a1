"""CPU seconds and memory of a differentially private step against a plain one.

`python -m benchmarks.private_step` writes `benchmarks/results/private_step.json` and `.md`: a
Lightning fit of the demo's teacher (gpt2-mini) on the quickstart's records, one thread. Both ways
take about as many records a step; the plain one takes them all at once, the private one unit by
unit. A figure is the process's CPU time between begin and end of a batch, optimiser step included
and the first left out, over the records of the batches, so that other processes' load counts
little. Every way of every round runs in a process of its own, whose peak of resident memory above
its start is its memory.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.quickstart import make_data, network_config
from benchmarks.scoring import describe_machine
from benchmarks.training_step import quieten
from kd_privacy.cli import TRAINER_DEFAULTS
from kdmodules import Network, OptimizerSettings, TeacherModule
from kdmodules.privacy.settings import PrivateTraining

RESULTS = Path(__file__).parent / "results"
PLAIN, PRIVATE = "plain", "private"
TARGET = 1.3


@dataclass(frozen=True)
class Run:
    """What one fit took.

    Attributes:
        seconds_per_record: CPU time of steps over the records that they took.
        megabytes: Peak of resident memory above that before the fit.
    """

    seconds_per_record: float
    megabytes: float


class _StepClock(Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.records: list[int] = []
        self._begin = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, i: int) -> None:
        self._begin = time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seconds.append(time.process_time() - self._begin)
        self.records.append(sum(map(bool, batch.record_ids)))


def fit(way: str, batch_size: int, steps: int, n_records: int) -> Run:
    """Trains one step more than are timed, in a process of its own."""
    torch.set_num_threads(1)
    quieten()
    private = way == PRIVATE
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(n_records)
        data.batch_size = batch_size
        data.setup("fit")
        module = TeacherModule(
            Network("gpt2", None, network_config("gpt2-mini")),
            OptimizerSettings(lr=1.5e-3),
            dp=PrivateTraining(noise=1.0) if private else None,
        )
        clock = _StepClock()
        options: dict[str, Any] = {
            **TRAINER_DEFAULTS,
            **({"gradient_clip_val": None} if private else {}),
            "accelerator": "cpu",
            "max_steps": steps + 1,
            "limit_val_batches": 0,
            "logger": False,
            "default_root_dir": folder,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "callbacks": [clock],
        }
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Trainer(**options).fit(module, datamodule=data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Run(sum(clock.seconds[1:]) / sum(clock.records[1:]), (peak - before) / 1024)


def measure(rounds: int, *sizes: int) -> dict[str, list[Run]]:
    """Runs of both ways, in turn."""
    runs: dict[str, list[Run]] = {PLAIN: [], PRIVATE: []}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as processes:
        for number in range(rounds):
            for way, done in runs.items():
                done.append(processes.submit(fit, way, *sizes).result())
                sys.stderr.write(f"round {number + 1} of {rounds}, {way}: {done[-1]}\n")
    return runs


def as_markdown(runs: dict[str, list[Run]], setting: dict[str, object]) -> str:
    """The table, with what it was measured on."""
    pairs = list(zip(runs[PRIVATE], runs[PLAIN], strict=True))
    ratio = statistics.median(a.seconds_per_record / b.seconds_per_record for a, b in pairs)
    lines = [
        "# A differentially private step against a plain one",
        "",
        ", ".join(f"{key} {value}" for key, value in setting.items()),
        "",
        "| way | CPU ms per record | peak MB above the start |",
        "| --- | --- | --- |",
    ]
    for way, done in runs.items():
        seconds = statistics.median(run.seconds_per_record for run in done)
        memory = statistics.median(run.megabytes for run in done)
        lines.append(f"| {way} | {1000 * seconds:.1f} | {memory:.0f} |")
    verdict = "met" if ratio <= TARGET else "missed"
    lines += ["", f"A private step takes {ratio:.2f} of a plain one (target {TARGET}: {verdict})."]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, writes both files, and prints the table last."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.private_step",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="fits of each way")
    add("--steps", type=int, default=4, help="timed optimiser steps of a fit")
    add("--batch_size", type=int, default=64, help="records of a step, on average")
    add("--n_records", type=int, default=970, help="size of the built-in corpus")
    add("--out", type=Path, default=RESULTS, help="folder for both files")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    runs = measure(options.rounds, options.batch_size, options.steps, options.n_records)
    names = ("batch_size", "steps", "rounds", "n_records")
    setting = {name: getattr(options, name) for name in names} | describe_machine()
    table = as_markdown(runs, setting)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "private_step.md").write_text(table)
    content = {"setting": setting, "runs": {w: [asdict(r) for r in d] for w, d in runs.items()}}
    (options.out / "private_step.json").write_text(json.dumps(content, indent=1) + "\n")
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
