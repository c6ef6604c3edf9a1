"""Memory of a scored model whose weights are held in float32 and in bfloat16.

`python -m benchmarks.weights_memory` writes `benchmarks/results/weights_memory.json` and `.md`. A
model of Qwen 3's shape and vocabulary is saved in bfloat16, as most are, and loaded and scored in a
fresh process for each type. Sizes are of the resident set above what the process held before,
mapped pages of files included; Linux and glibc only, see `benchmarks.scoring_memory`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.scoring import build_config, describe_machine
from benchmarks.scoring_memory import MAPPED_BYTES, resident_bytes, settle
from kdmodules.models.architectures import new_model
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import load_model
from kdmodules.models.pretrained import Dtype
from kdmodules.scoring import token_statistics

RESULTS = Path(__file__).parent / "results"
TYPES: tuple[Dtype, ...] = ("float32", "bfloat16")
RECORDS, TOKENS = 4, 128


@dataclass(frozen=True)
class Row:
    """What one type of weights took, in 10^6 bytes.

    Attributes:
        dtype: The type.
        weights_mb: Sum of the weights' sizes.
        held_mb: Resident above the start when the model is loaded.
        scoring_mb: High-water mark above the start while a batch was scored.
        seconds: Time of scoring the batch.
    """

    dtype: str
    weights_mb: float
    held_mb: float
    scoring_mb: float
    seconds: float


@torch.no_grad()
def measure(folder: str, dtype: Dtype) -> Row:
    """Loads and scores in this process."""
    settle()
    start = resident_bytes("VmRSS")

    def above(field: str) -> float:
        return (resident_bytes(field) - start) / 1e6

    model = load_model(folder, dtype=dtype)
    lm = CausalLM(model, model.config.vocab_size).eval()
    settle()
    held = above("VmRSS")
    ids = torch.randint(0, lm.vocabulary_size, (RECORDS, TOKENS))
    began = time.perf_counter()
    hidden = lm.states(ids, torch.ones_like(ids))[:, :-1].flatten(0, 1)
    token_statistics(hidden, lm.head, ids[:, 1:].flatten())
    seconds = time.perf_counter() - began
    weights = sum(one.numel() * one.element_size() for one in model.parameters()) / 1e6
    return Row(dtype, weights, held, above("VmHWM"), seconds)


def in_fresh_process(folder: str, dtype: Dtype, threads: int) -> Row:
    """Measures one type in a process of its own.

    Raises:
        RuntimeError: It failed.
    """
    command = [sys.executable, "-m", "benchmarks.weights_memory", "--worker", folder, dtype]
    held = {"OMP_NUM_THREADS": str(threads), "MALLOC_MMAP_THRESHOLD_": str(MAPPED_BYTES)}
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        command, cwd=root, env=os.environ | held, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{dtype} failed:\n{done.stderr[-2000:]}")
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def as_markdown(rows: list[Row], machine: dict[str, object]) -> str:
    """The table, and on what."""
    lines = [
        "# Memory of a scored model by the type of its weights",
        "",
        f"Qwen 3's shape, 6 x 512, 151,936 tokens; a batch of {RECORDS} x {TOKENS} tokens. "
        + ", ".join(f"{key} {value}" for key, value in machine.items()),
        "",
        "| weights | their sizes, MB | held, MB | peak scoring, MB | s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        sizes = (row.weights_mb, row.held_mb, row.scoring_mb)
        numbers = " | ".join(f"{size:.0f}" for size in sizes)
        lines.append(f"| {row.dtype} | {numbers} | {row.seconds:.1f} |")
    whole, half = rows
    lines += ["", f"bfloat16 holds {half.held_mb / whole.held_mb:.2f} of what float32 holds."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, or works for a measuring process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for both files")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        sys.stdout.write(json.dumps(asdict(measure(*options.worker))) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        new_model(build_config("qwen3")).bfloat16().save_pretrained(folder)
        rows = [in_fresh_process(folder, dtype, options.threads) for dtype in TYPES]
    machine = describe_machine()
    content = {"machine": machine, "rows": [asdict(row) for row in rows]}
    (options.out / "weights_memory.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "weights_memory.md").write_text(as_markdown(rows, machine))


if __name__ == "__main__":
    main()
