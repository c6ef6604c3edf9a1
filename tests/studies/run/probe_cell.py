"""A cell that first writes down the state of its process, as the environment's `PROBE` names."""

import json
import os
import random
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from kd_privacy.preloaded import main as fit

# What takes long to import: a server whose module leaves it to the cells saves them nothing.
NEEDED = (
    "lightning.pytorch.cli",
    "transformers.models.gpt2.modeling_gpt2",
    "callbacks.membership",
    "kdmodules.student",
    "datamodules.instruction",
)


def state() -> dict[str, object]:
    """What a fresh process and a forked one have in common, or must each have of their own."""
    names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    files = {number.name: os.readlink(number) for number in map(Path, names) if number.exists()}
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "arguments": sys.argv[1:],
        "files": sorted(files.values()),
        "signals": {
            str(number): str(signal.getsignal(number)) for number in signal.valid_signals()
        },
        "masked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "umask": os.umask(0o022),
        "leads": [os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid()],
        "warnings": [str(entry) for entry in warnings.filters],
        "imported": [name in sys.modules for name in NEEDED],
        "threads": torch.get_num_threads(),
        "own random state": [
            random.random(),
            float(np.random.random()),  # noqa: NPY002
            torch.initial_seed(),
        ],
    }


def main() -> None:
    """Writes the state and does what `kd-privacy` does."""
    Path(os.environ["PROBE"]).write_text(json.dumps(state()))
    fit()


if __name__ == "__main__":
    main()
