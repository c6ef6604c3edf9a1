"""Peak memory of a membership audit against the number of records.

`python -m benchmarks.scoring_memory` writes `benchmarks/results/scoring_memory.json` and `.md`.
Each size runs in a fresh process: a tiny GPT-2-shaped model and one reference score both sides of
an audit, seven attacks are run and evaluated, and the scores table is written. The records, both
models and what a small audit of other records leaves behind are there before; the peak is the
kernel's high-water mark of the resident set above that, mapped pages of files included. Linux and
glibc only: the mark is set back through `/proc`. The shift test looks at a bounded number of
records and is left out.

glibc maps blocks from 128 kB on apart and gives each back when it is freed, but raises that limit
whenever one is. The tensors of a batch then lie in one heap with all small objects, where what is
freed can neither be given back nor always be used again: the mark rises by chance, the more the
longer a process runs (68 MB, not 37, with 30,000 records). The measuring process therefore holds
the limit where it starts (`MALLOC_MMAP_THRESHOLD_`), so that the mark tells what the audit holds.
"""

import argparse
import ctypes
import gc
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from audits.context import Measurements
from audits.membership.attacks import (
    RMIA,
    Attack,
    LiRA,
    Loss,
    MinK,
    MinKPlusPlus,
    Reference,
    Zlib,
)
from audits.membership.collection import Collector
from audits.membership.evaluation import Opposition, Side, evaluate
from audits.membership.metrics import DEFAULT_FPRS
from audits.membership.plan import AuditPlan
from audits.results import write_part
from audits.scoring.encoded_file import EncodedFile
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from audits.scoring.scoring_pass import score_records
from common.ranks import Ranks
from datamodules.batches import RecordEncoder
from datamodules.prompts import PromptTemplate
from datamodules.records import InstructionRecord
from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from kdmodules.models.causal_lm import CausalLM

RESULTS = Path(__file__).parent / "results"
ATTACKS: tuple[Attack, ...] = (
    *(Loss(), Zlib(), MinK(), MinKPlusPlus()),
    *(Reference(), RMIA(["base"]), LiRA(["base"])),
)
VOCABULARY, WARM_UP, POPULATION = 1024, 400, 500
# As short as a prompt can be, so that 100,000 records take minutes.
TEMPLATE = PromptTemplate("{instruction}\n{context}\n", "{instruction}\n")
MAPPED_BYTES = 128 * 1024
BYTES_PER_TOKEN = 20
SCORE_BYTES = 8


@dataclass(frozen=True)
class Row:
    """What an audit of so many records took.

    Attributes:
        records: Records of both sides together.
        seconds: Time of the audit.
        peak_mb: High-water mark above the start, 10^6 bytes.
        left_mb: Resident above the start when the audit is over and its scores are held.
        tokens_mb: What the token statistics of both passes would fill, 20 bytes a token.
        scores_mb: What the scores fill, 8 bytes each.
    """

    records: int
    seconds: float
    peak_mb: float
    left_mb: float
    tokens_mb: float
    scores_mb: float


class World:
    """Two tiny models, an encoder, and records without a context."""

    def __init__(self, n_records: int) -> None:
        corpus = [
            replace(one, context="")
            for one in generate_records(n_records + WARM_UP + POPULATION, seed=1)
        ]
        self.never, self.warm_up = corpus[:POPULATION], corpus[POPULATION : POPULATION + WARM_UP]
        self.records = corpus[POPULATION + WARM_UP :]
        texts = [f"{one.instruction} {one.response}" for one in self.warm_up]
        tokenizer = train_tokenizer(texts, VOCABULARY)
        self.encoder = RecordEncoder(tokenizer, TEMPLATE, max_prompt_tokens=256, max_tokens=512)
        self.lm, self.reference = (_model(len(tokenizer), seed) for seed in (0, 1))

    def audit(self, records: Sequence[InstructionRecord], folder: Path) -> Measurements:
        """Scores, attacks and evaluates two halves against each other and writes the scores."""
        sides = {"private": records[::2], "held_out": records[1::2]}
        with torch.no_grad():
            views = self._collector(sides, folder).collect(AuditPlan.of(ATTACKS), sides)
        found = evaluate(
            ATTACKS,
            DEFAULT_FPRS,
            {name: Side(view, [one.id for one in view.records]) for name, view in views.items()},
            [Opposition("private", "held_out", fair_coins=False)],
            shift_tests={},
            named=False,
        )
        rows = ({"run": "benchmark", "step": 0, **row} for row in found.scores)
        write_part(folder, "scores", 0, "membership", rows)
        return found

    def _collector(self, sides: dict[str, Sequence[InstructionRecord]], folder: Path) -> Collector:
        access = ModelAccess(self.lm, self.encoder, Ranks(), 64, 8192, 0, _silent)
        return Collector(
            access=access,
            load_reference=lambda name: ReferenceModel(self.reference, self.encoder),
            own_pass=lambda name, outside_top: score_records(
                access,
                EncodedFile(sides[name], self.encoder.encode_all, folder),
                name,
                folder=folder,
                outside_top=outside_top,
            ),
            weights_hash=lambda lm: "",
            pool_records=lambda side, use: [],
            never_records=lambda: list(self.never),
            met=lambda name, records: [False] * len(records),
            folder=folder,
        )


def _model(vocabulary: int, seed: int) -> CausalLM:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_layer=1,
        n_embd=32,
        n_head=2,
        n_positions=512,
        bos_token_id=0,
        eos_token_id=0,
    )
    return CausalLM(GPT2LMHeadModel(config).eval(), vocabulary)


def _silent(title: str, total: int) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None)


def resident_bytes(field: str) -> int:
    """Reads a field of this process's memory: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def settle() -> None:
    """Drops garbage, hands freed memory back to the system and sets the high-water mark back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def measure(n_records: int) -> Row:
    """Audits so many records in this process."""
    world = World(n_records)
    with tempfile.TemporaryDirectory(dir=RESULTS) as name:
        folder = Path(name)
        world.audit(world.warm_up, folder)
        settle()
        start, began = resident_bytes("VmRSS"), time.perf_counter()
        found = world.audit(world.records, folder)
        seconds, peak = time.perf_counter() - began, resident_bytes("VmHWM")
        settle()
        left = resident_bytes("VmRSS")
    lengths = EncodedFile(world.records, world.encoder.encode_all)
    tokens = sum(len(one.response_ids) for one in lengths)
    return Row(
        n_records,
        seconds,
        (peak - start) / 1e6,
        (left - start) / 1e6,
        2 * tokens * BYTES_PER_TOKEN / 1e6,
        len(found.scores) * SCORE_BYTES / 1e6,
    )


def in_fresh_process(n_records: int, threads: int) -> Row:
    """Measures one size in a process of its own.

    Raises:
        RuntimeError: The process failed.
    """
    arguments = ["--worker", str(n_records), "--threads", str(threads)]
    command = [sys.executable, "-m", "benchmarks.scoring_memory", *arguments]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MALLOC_MMAP_THRESHOLD_": str(MAPPED_BYTES),
    }
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{n_records} records failed:\n{done.stderr[-2000:]}")
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def per_record(rows: Sequence[Row], column: str) -> float:
    """Bytes a record that a column grows by from the smallest to the largest size."""
    first, last = min(rows, key=lambda row: row.records), max(rows, key=lambda row: row.records)
    if first.records == last.records:
        return math.nan
    grown = getattr(last, column) - getattr(first, column)
    return 1e6 * grown / (last.records - first.records)


def as_markdown(rows: Sequence[Row], machine: dict[str, object]) -> str:
    """The table, and what each column grows by with a record."""
    columns = ("peak_mb", "left_mb", "tokens_mb", "scores_mb")
    lines = [
        "# Memory of a membership audit against the number of records",
        "",
        ", ".join(f"{key} {value}" for key, value in machine.items()),
        "",
        "| records | s | peak above start, MB | left, MB | token statistics, MB | scores, MB |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row.records:,} | {row.seconds:.0f} | "
            + " | ".join(f"{getattr(row, column):.1f}" for column in columns)
            + " |"
            for row in rows
        ),
        "| bytes a record | | "
        + " | ".join(f"{per_record(rows, column):.0f}" for column in columns)
        + " |",
        "",
        "The last row is the growth from the smallest to the largest size. Token statistics are on",
        "disk, a shard of 512 records of one pass at a time in memory. What is left holds the",
        "scores with their records' ids, tasks and clusters, the figures, the tokenizer's cache of",
        "words, and what allocators keep for the next audit.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measures all sizes, or one for the measuring process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="records of each run"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for both files")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.worker:
        sys.stdout.write(json.dumps(asdict(measure(options.worker))) + "\n")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in options.sizes:
        sys.stderr.write(f"{size} records\n")
        rows.append(in_fresh_process(size, options.threads))
    machine: dict[str, object] = {
        "attacks": len(ATTACKS),
        "passes": 2,
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    content = {"machine": machine, "sizes": [asdict(row) for row in rows]}
    (options.out / "scoring_memory.md").write_text(as_markdown(rows, machine))
    (options.out / "scoring_memory.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
