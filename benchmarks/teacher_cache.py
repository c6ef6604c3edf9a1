"""Seconds of an epoch taught live against one taught from the cache, and where the cache pays.

`python -m benchmarks.teacher_cache` writes `benchmarks/results/teacher_cache.json` and `.md`. KD on
the built-in corpus with the quickstart's splits, student and recipe, and its teacher beside a
smaller and a larger one; all have random weights, which take the time of trained ones. A round
trains live, then with an empty cache, then with the cache that is there. Seconds are the process's
own (all threads), which other work on the machine changes less than the clock's; an epoch is
counted without its validation, a fit's epoch is its quickest, and ratios are medians of the rounds'
ratios, with the lowest and the highest round beside how many times faster an epoch is.
"""

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.quickstart import make_data, network_config, write_teacher
from benchmarks.scoring import describe_machine
from datamodules.instruction import InstructionDataModule
from kd_privacy.cli import TRAINER_DEFAULTS
from kdmodules import Network, OptimizerSettings, StudentModule
from kdmodules.losses import ForwardKL
from kdmodules.responses import DatasetResponses
from kdmodules.teacher_cache import TeacherCache
from kdmodules.teacher_cache.store import Store

RESULTS = Path(__file__).parent / "results"
LIVE, FIRST, LATER = "live", "empty cache", "cache there"
QUICKSTART = "gpt2-mini, the quickstart's"
TEACHERS: dict[str, dict[str, int]] = {
    "gpt2-tiny, the student's size": {"n_layer": 3, "n_embd": 128},
    QUICKSTART: {},
    "4 x 192": {"n_embd": 192},
    "8 x 320": {"n_layer": 8, "n_embd": 320},
}
QUICKSTART_EPOCHS = 8
TARGET = 1.6


@dataclass(frozen=True)
class Run:
    """One fit.

    Attributes:
        start: Process seconds from its begin to the first batch, building or opening included.
        epochs: Process seconds of every epoch.
        clock: Seconds by the clock of every epoch.
        losses: Mean loss of every optimiser step.
    """

    start: float
    epochs: list[float]
    clock: list[float]
    losses: list[float]

    @property
    def epoch(self) -> float:
        """Process seconds of the quickest epoch."""
        return min(self.epochs)

    @property
    def whole(self) -> float:
        """Process seconds of a fit as long as the quickstart's."""
        return self.start + QUICKSTART_EPOCHS * self.epoch

    def seconds(self) -> dict[str, object]:
        """What was timed; the losses have done their part when the ways were compared."""
        return {"start": self.start, "epochs": self.epochs, "clock": self.clock}


@dataclass(frozen=True)
class Row:
    """What the cache does under one teacher: medians over rounds.

    Attributes:
        teacher: Its name.
        live: Seconds of an epoch.
        cached: The same from the cache.
        ratio: How many times faster the cached epoch is.
        spread: The same in the round with the least and with the most of it.
        clock_ratio: The same by the clock.
        build: Seconds that the first start takes longer than a live one.
        open: The same of a later start; below 0 where loading the teacher takes longer.
        pays_after: Epochs of one student after which building has paid.
        share: Seconds of a fit of 8 epochs, with its start, over those of a live one: the student
            that builds, and one that comes later.
        disk_mb: Size of the store, 10^6 bytes.
        logp_mb: What full log-probabilities would take in float32.
    """

    teacher: str
    live: float
    cached: float
    ratio: float
    spread: tuple[float, float]
    clock_ratio: float
    build: float
    open: float
    pays_after: float
    share: tuple[float, float]
    disk_mb: float
    logp_mb: float


class Stopwatch(Callback):
    """Times the start and the epochs of a fit."""

    def __init__(self) -> None:
        self.begun = time.process_time()
        self.start = 0.0
        self.epochs: list[float] = []
        self.clock: list[float] = []
        self._marks = (0.0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the start."""
        self.start = time.process_time() - self.begun

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins an epoch."""
        self._marks = (time.process_time(), time.perf_counter())

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Ends an epoch with its last batch, before a validation."""
        if trainer.is_last_batch:
            process, clock = self._marks
            self.epochs.append(time.process_time() - process)
            self.clock.append(time.perf_counter() - clock)


def fit(
    teacher: str, cache: TeacherCache | None, data: InstructionDataModule, epochs: int, root: Path
) -> Run:
    """Trains the quickstart's student by kd, with two validations."""
    student = StudentModule(
        Network("gpt2", None, network_config("gpt2-tiny")),
        OptimizerSettings(lr=1.5e-3),
        teacher,
        ForwardKL(),
        DatasetResponses(),
        teacher_cache=cache,
    )
    losses: list[float] = []
    object.__setattr__(student, "on_step_means", lambda means: losses.append(means["loss"]))
    watch = Stopwatch()
    trainer = Trainer(
        **TRAINER_DEFAULTS
        | {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": epochs,
            "check_val_every_n_epoch": max(epochs // 2, 1),
            "default_root_dir": str(root),
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "callbacks": [watch],
        }
    )
    trainer.fit(student, data)
    return Run(watch.start, watch.epochs, watch.clock, losses)


def measure(
    teacher: str, data: InstructionDataModule, rounds: int, epochs: int, folder: Path
) -> dict[str, list[Run]]:
    """Runs of the three ways, round by round.

    Raises:
        RuntimeError: The cache teaches something else, so that its times say nothing.
    """
    runs: dict[str, list[Run]] = {LIVE: [], FIRST: [], LATER: []}
    for index in range(rounds):
        cache = TeacherCache(str(folder / f"cache-{index}"))
        for way, used in ((LIVE, None), (FIRST, cache), (LATER, cache)):
            sys.stderr.write(f"{Path(teacher).name}, round {index + 1} of {rounds}: {way}\n")
            runs[way].append(fit(teacher, used, data, epochs, folder))
        for way in (FIRST, LATER):
            pairs = zip(runs[way][-1].losses, runs[LIVE][-1].losses, strict=True)
            apart = max(abs(one - other) for one, other in pairs)
            if apart > 1e-4:
                raise RuntimeError(f"{way}: losses are {apart:.1e} nats from the live ones")
    return runs


def compare(name: str, runs: dict[str, list[Run]], cache: Path, n_vocabulary: int) -> Row:
    """The row of one teacher, whose store is the only one in the cache's folder."""
    (path,) = (one for one in cache.iterdir() if one.is_dir())
    store, middle = Store(path), statistics.median
    live, first, later = (runs[way] for way in (LIVE, FIRST, LATER))
    times = [a.epoch / c.epoch for a, c in zip(live, later, strict=True)]
    build = middle([b.start - a.start for a, b in zip(live, first, strict=True)])
    saved = middle([a.epoch - c.epoch for a, c in zip(live, later, strict=True)])
    return Row(
        name,
        middle([run.epoch for run in live]),
        middle([run.epoch for run in later]),
        middle(times),
        (min(times), max(times)),
        middle([min(a.clock) / min(c.clock) for a, c in zip(live, later, strict=True)]),
        build,
        middle([c.start - a.start for a, c in zip(live, later, strict=True)]),
        build / saved,
        (
            middle([b.whole / a.whole for a, b in zip(live, first, strict=True)]),
            middle([c.whole / a.whole for a, c in zip(live, later, strict=True)]),
        ),
        store.disk_bytes / 1e6,
        store.n_rows * n_vocabulary * 4 / 1e6,
    )


def verdict(row: Row) -> str:
    """Whether every round reached the target, none did, or some."""
    lowest, highest = row.spread
    if lowest >= TARGET:
        return "met"
    return "missed" if highest < TARGET else "reached in some rounds only"


def as_markdown(rows: Sequence[Row], setting: dict[str, object]) -> str:
    """The table, with what it was measured on."""
    lines = [
        "# Taught from the cache",
        "",
        ", ".join(f"{key} {value}" for key, value in setting.items()),
        "",
        "| teacher | live, s/epoch | cached | times faster | by the clock | building, s |"
        " opening, s | pays after, epochs | 8 epochs, builder | 8 epochs, later | store, MB |"
        " log-probabilities, MB |",
        "| --- |" + " --- |" * 11,
    ]
    for row in rows:
        times = "{:.2f} ({:.2f} to {:.2f})".format(row.ratio, *row.spread)
        seconds = f"{row.live:.2f} | {row.cached:.2f} | {times} | {row.clock_ratio:.2f}"
        starts = f"{row.build:.2f} | {row.open:.2f} | {row.pays_after:.1f}"
        shares = f"{row.share[0]:.2f} | {row.share[1]:.2f}"
        sizes = f"{row.disk_mb:.1f} | {row.logp_mb:.0f}"
        lines.append(f"| {row.teacher} | {seconds} | {starts} | {shares} | {sizes} |")
    lines += [
        f"\nTarget at the quickstart's proportions: {TARGET} times faster, {verdict(row)}."
        for row in rows
        if row.teacher == QUICKSTART
    ]
    return "\n".join(lines) + "\n"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.teacher_cache",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="rounds for each teacher")
    add("--epochs", type=int, default=4, help="epochs of a fit")
    add("--n_records", type=int, default=1100, help="records of the corpus, 28% of which train")
    add("--threads", type=int, default=1, help="torch threads; one, as a cell of the quickstart")
    add("--teachers", nargs="+", default=list(TEACHERS), choices=list(TEACHERS), help="which")
    add("--out", type=Path, default=RESULTS, help="folder for both files")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes both files, and prints the table last."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    data = make_data(options.n_records)
    data.setup("fit")
    rows, seconds = [], {}
    for name in options.teachers:
        with tempfile.TemporaryDirectory() as folder:
            teacher = write_teacher(Path(folder) / "teacher", TEACHERS[name], data)
            runs = measure(teacher, data, options.rounds, options.epochs, Path(folder))
            rows.append(compare(name, runs, Path(folder) / "cache-0", len(data.tokenizer)))
            seconds[name] = {way: [run.seconds() for run in done] for way, done in runs.items()}
    setting = {
        "records": options.n_records,
        "rounds": options.rounds,
        "epochs": options.epochs,
        **describe_machine(),
    }
    table = as_markdown(rows, setting)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "teacher_cache.md").write_text(table)
    content = {"setting": setting, "rows": [asdict(row) for row in rows], "seconds": seconds}
    (options.out / "teacher_cache.json").write_text(json.dumps(content, indent=1) + "\n")
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
