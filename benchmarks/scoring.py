"""Records per second of the membership pass, against its floor and against others' ways of working.

`python -m benchmarks.scoring` writes `benchmarks/results/scoring.json` and prints its tables.
Models have random weights: two of GPT-2's shape, one of Qwen 3's with its 151,936 tokens, one of
Gemma 2's with its soft cap (`--size discovered` takes these two, `--size all` all four). In every
round each way runs once, in turn, in one process; a ratio is the median over rounds of the ratio
within a round, so only ratios are to be quoted. Tokenisation is outside all timings. The slow ways
run on records spread evenly over the lengths, and every way's scores are compared with ours before
anything is timed.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from benchmarks import scoring_ways as ways
from benchmarks.scoring_ways import Workload
from datamodules.batches import RecordEncoder, collate, length_buckets
from datamodules.records import InstructionRecord, read_records
from datamodules.synthetic import generate_records
from datamodules.tokenizer import load_tokenizer, train_tokenizer
from kdmodules.models.architectures import new_model
from kdmodules.models.causal_lm import CausalLM

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
DOLLY = SHARED / "dolly" / "databricks-dolly-12k.jsonl"
GPT2_TOKENIZER = SHARED / "tokenizers" / "gpt2"
RESULTS = Path(__file__).parent / "results" / "scoring.json"
_GPT2 = {"vocab_size": 50_257, "n_positions": 1024}
_GROUPED = {
    **{"num_hidden_layers": 6, "hidden_size": 512, "intermediate_size": 1536, "head_dim": 64},
    **{"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 1024},
    "tie_word_embeddings": True,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "small": ("gpt2", {**_GPT2, "n_layer": 6, "n_embd": 256, "n_head": 4}),
    "base": ("gpt2", {**_GPT2, "n_layer": 12, "n_embd": 768, "n_head": 12}),
    "qwen3": ("qwen3", {**_GROUPED, "vocab_size": 151_936}),
    "gemma2": ("gemma2", {**_GROUPED, "vocab_size": 256_000, "final_logit_softcapping": 30.0}),
}
"""Model type and configuration by name."""
FLOOR, FOUR, ALL = "floor", "four attacks", "likelihood attacks + reference"
BY_ACCESS = "the same, top-k loss, EZ and window votes"
PUBLISHED, MIMIR = "published way", "one document at a time"
WHOLE = "four attacks, not taken apart"


@dataclass(frozen=True)
class Target:
    """A ratio to reach: time of ``way`` over time of ``against``."""

    way: str
    against: str
    limit: float
    at_most: bool


TARGETS = (
    Target(FOUR, FLOOR, 1.25, at_most=True),
    Target(ALL, FLOOR, 2 * 1.20, at_most=True),
    Target(BY_ACCESS, FLOOR, 2 * 1.40, at_most=True),
    Target(PUBLISHED, FOUR, 18.0, at_most=False),
    Target(MIMIR, FOUR, 5.0, at_most=False),
)


@dataclass(frozen=True)
class Way:
    """A way of scoring and how many records one run of it scores."""

    name: str
    n_records: int
    run: Callable[[], object]


def build_config(size: str) -> PreTrainedConfig:
    """The configuration of a model."""
    model_type, options = SHAPES[size]
    return AutoConfig.for_model(model_type, **options)


def build_model(size: str, seed: int) -> CausalLM:
    """A model with random weights, in evaluation mode."""
    config = build_config(size)
    torch.manual_seed(seed)
    return CausalLM(new_model(config).eval(), config.vocab_size)


def load_records(source: str | None, n_records: int) -> list[InstructionRecord]:
    """Records spread evenly over the source, or over the built-in corpus where there is none."""
    records = read_records(source) if source else generate_records(4 * n_records, seed=0)
    distinct = list({record.id: record for record in records}.values())
    return distinct[:: max(1, len(distinct) // n_records)][:n_records]


def load_or_train_tokenizer(
    source: str | None, records: Sequence[InstructionRecord]
) -> PreTrainedTokenizerBase:
    """The tokenizer named, or a small one trained on the records."""
    if source:
        return load_tokenizer(source)
    texts = [f"{r.instruction} {r.context} {r.response}" for r in records]
    return train_tokenizer(texts, vocabulary_size=1024)


def build_workload(
    records: list[InstructionRecord], tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> Workload:
    """Prompts and responses of at most 256 tokens, in length-sorted batches."""
    encoder = RecordEncoder(
        tokenizer,
        max_prompt_tokens=ways.PROMPT_WIDTH,
        max_tokens=ways.PROMPT_WIDTH + ways.RESPONSE_WIDTH,
    )
    pairs = [
        (record, encoded)
        for record, encoded in zip(records, encoder.encode_all(records), strict=True)
        if 0 < len(encoded.response_ids) <= ways.RESPONSE_WIDTH
    ]
    kept = [encoded for _, encoded in pairs]
    buckets = length_buckets([len(encoded) for encoded in kept], batch_size, None)
    batches = [collate([kept[i] for i in bucket], encoder.pad_id) for bucket in buckets]
    return Workload([record for record, _ in pairs], kept, batches, encoder.pad_id)


def build_ways(size: str, work: Workload, n_slow: int) -> list[Way]:
    """All ways, after a check that they give the same scores.

    Raises:
        RuntimeError: two ways disagree, so that their times say nothing.
    """
    lm, reference = build_model(size, seed=0), build_model(size, seed=1)
    by_length = sorted(range(len(work.records)), key=lambda i: len(work.encoded[i]))
    step = len(by_length) / max(1, n_slow)
    chosen = [by_length[int((k + 0.5) * step)] for k in range(n_slow)]
    n_records = len(work.records)
    slow = {
        MIMIR: lambda: ways.one_document_at_a_time(lm, work, chosen),
        PUBLISHED: lambda: ways.one_forward_per_attack(lm, work, chosen),
    }
    slow = slow if n_slow else {}
    expected = ways.ours(lm, work)
    checked = [(WHOLE, ways.ours_as_a_whole(lm, work), list(range(n_records)))]
    checked += [(name, run(), chosen) for name, run in slow.items()]
    for name, found, rows in checked:
        for attack, scores in found.items():
            worst = float((scores - expected[attack][rows]).abs().max())
            if worst > 1e-3:
                raise RuntimeError(f"{name}: {attack} differs from ours by {worst:.1e}")
    return [
        Way(FLOOR, n_records, lambda: ways.floor(lm, work)),
        Way("floor, head in cache-sized tiles", n_records, lambda: ways.tiled_floor(lm, work)),
        Way(FOUR, n_records, lambda: ways.ours(lm, work)),
        Way(ALL, n_records, lambda: ways.ours_with_reference(lm, reference, work)),
        Way(BY_ACCESS, n_records, lambda: ways.ours_by_access(lm, reference, work)),
        Way(WHOLE, n_records, lambda: ways.ours_as_a_whole(lm, work)),
        Way("bare forward, all logits", n_records, lambda: ways.all_logits(lm, work)),
        *(Way(name, n_slow, run) for name, run in slow.items()),
    ]


def measure(all_ways: Sequence[Way], rounds: int, console: Console) -> dict[str, list[float]]:
    """Seconds per record of every way in every round."""
    seconds: dict[str, list[float]] = {way.name: [] for way in all_ways}
    for index in range(rounds):
        for way in all_ways:
            console.log(f"round {index + 1} of {rounds}: {way.name}, {way.n_records} records")
            start = time.perf_counter()
            way.run()
            seconds[way.name].append((time.perf_counter() - start) / way.n_records)
    return seconds


def ratio(seconds: dict[str, list[float]], way: str, against: str) -> float:
    """Median over rounds of the ratio of two ways' times."""
    pairs = zip(seconds[way], seconds[against], strict=True)
    return statistics.median(a / b for a, b in pairs)


def verdicts(seconds: dict[str, list[float]]) -> list[dict[str, object]]:
    """What was to be reached, what was, and whether that is enough."""
    found = []
    for target in TARGETS:
        if target.way not in seconds:
            continue
        value = ratio(seconds, target.way, target.against)
        met = value <= target.limit if target.at_most else value >= target.limit
        found.append({**asdict(target), "ratio": value, "met": met})
    return found


def render(size: str, seconds: dict[str, list[float]], console: Console) -> None:
    """Prints the table of one model and the targets."""
    config = build_config(size)
    table = Table(
        title=f"Membership scoring, {config.model_type} {config.num_hidden_layers} x "
        f"{config.hidden_size}, vocabulary {config.vocab_size:,}"
    )
    for heading in ("way", "records/s", "x floor", "x four attacks"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, times in seconds.items():
        table.add_row(
            name,
            f"{1 / statistics.median(times):.2f}",
            f"{ratio(seconds, name, FLOOR):.2f}",
            f"{ratio(seconds, name, FOUR):.2f}",
        )
    console.print(table)
    for entry in verdicts(seconds):
        sign, word = ("<=" if entry["at_most"] else ">="), ("met" if entry["met"] else "missed")
        console.print(
            f"{entry['way']} / {entry['against']}: {entry['ratio']:.2f} "
            f"(to reach: {sign} {entry['limit']:g}) {word}"
        )


def describe_machine() -> dict[str, object]:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scoring",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--size",
        choices=[*SHAPES, "both", "discovered", "all"],
        default="both",
        help="model; both are GPT-2's, discovered are the others (default: both)",
    )
    add(
        "--records",
        default=str(DOLLY) if DOLLY.is_file() else None,
        help="records: file, folder or hub name (default: %(default)s; None: built-in corpus)",
    )
    add(
        "--tokenizer",
        default=str(GPT2_TOKENIZER) if GPT2_TOKENIZER.is_dir() else None,
        help="tokenizer: folder or hub name (default: %(default)s; None: trained on the records)",
    )
    add("--n_records", type=int, default=200, help="records to score (default: %(default)s)")
    add(
        "--n_slow",
        type=int,
        default=16,
        help="records that the slow ways score; 0 leaves them out (default: %(default)s)",
    )
    add("--batch_size", type=int, default=32, help="records in a batch (default: %(default)s)")
    add("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    add(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        help="threads of torch (default: %(default)s)",
    )
    add("--out", type=Path, default=RESULTS, help="JSON file (default: %(default)s)")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Measures, writes the JSON file, and prints the tables last."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    console = Console()
    records = load_records(arguments.records, arguments.n_records)
    tokenizer = load_or_train_tokenizer(arguments.tokenizer, records)
    work = build_workload(records, tokenizer, arguments.batch_size)
    several = {"both": ["small", "base"], "discovered": ["qwen3", "gemma2"], "all": list(SHAPES)}
    sizes = several.get(arguments.size, [arguments.size])
    measured: dict[str, dict[str, list[float]]] = {}
    for size in sizes:
        console.log(f"model {size}: {len(work.records)} records, checking that all ways agree")
        measured[size] = measure(
            build_ways(size, work, arguments.n_slow), arguments.rounds, console
        )
    content = {
        "machine": describe_machine(),
        "records": Path(arguments.records).name if arguments.records else "built-in",
        "n_records": len(work.records),
        "n_slow": arguments.n_slow,
        "batch_size": arguments.batch_size,
        "models": {
            size: {"seconds_per_record": seconds, "targets": verdicts(seconds)}
            for size, seconds in measured.items()
        },
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(content, indent=2) + "\n")
    for size, seconds in measured.items():
        render(size, seconds, console)


if __name__ == "__main__":
    main()
