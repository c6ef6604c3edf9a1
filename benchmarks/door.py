"""Processor time of starting the commands, beside that of importing what they stand on.

`python -m benchmarks.door` writes `benchmarks/results/door.json` and a table beside it. A ratio is
the median over rounds of a process's user and system time over that of
`python -c "import lightning.pytorch.cli, transformers"` in the same round, since a busy machine
slows both. A first round, which writes bytecode, is not counted.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.scoring import describe_machine

BASE = "import lightning.pytorch.cli, transformers"
IMPORTS = {
    BASE: BASE,
    "imports of kd-privacy fit": "import kd_privacy.cli",
    "imports of kd-study plan": (
        "import kd_privacy.cli, studies.plan.planner, studies.run.checks, "
        "studies.run.estimate_output"
    ),
    "imports of kd-study report": "import studies.plan.planner, studies.report",
    "imports of kd-study claims": "import studies.claims.output, studies.compare.tables",
    "import kd_privacy": "import kd_privacy",
}
STUDY = ("plan", "run", "report", "claims")
COMMANDS = {
    "kd_privacy": ("", "--help", "fit --help", "validate --help", "attack --help"),
    "kd_privacy.study_cli": ("", "--help", *(f"{name} --help" for name in STUDY)),
}
TITLES = {"kd_privacy": "kd-privacy", "kd_privacy.study_cli": "kd-study"}
ROOT = Path(__file__).resolve().parents[1]


def programs() -> dict[str, list[str]]:
    """Returns what is started, by its name in the table: arguments of Python."""
    imports = {name: ["-c", program] for name, program in IMPORTS.items()}
    commands = {
        f"{TITLES[module]} {words}".strip(): ["-m", module, *words.split()]
        for module, lines in COMMANDS.items()
        for words in lines
    }
    return imports | commands


def processor_seconds(arguments: Sequence[str]) -> float:
    """Returns user and system time of a Python process, in seconds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A command without a word ends with status 2, as it should.
    subprocess.run([sys.executable, *arguments], env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(rounds: int) -> dict[str, list[float]]:
    """Returns the processor seconds of every program, one for each round, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in programs()}
    for number in range(rounds + 1):
        for name, arguments in programs().items():
            taken = processor_seconds(arguments)
            if number > 0:
                seconds[name].append(taken)
    return seconds


def as_markdown(seconds: Mapping[str, Sequence[float]], machine: str) -> str:
    """Returns the table: median seconds of each program, and its ratio to the imports."""
    lines = [
        "# Processor time of starting a command",
        "",
        f"{machine}; medians of {len(seconds[BASE])} rounds",
        "",
        "| What | s | of the first line |",
        "| --- | --- | --- |",
    ]
    for name, taken in seconds.items():
        ratios = [time / base for time, base in zip(taken, seconds[BASE], strict=True)]
        lines.append(
            f"| `{name}` | {statistics.median(taken):.2f} | {statistics.median(ratios):.2f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes both files, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args(arguments)
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    seconds = measure(options.rounds)
    table = as_markdown(seconds, machine)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "door.md").write_text(table, encoding="utf-8")
    content = {"machine": machine, "seconds": seconds}
    (options.out / "door.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
