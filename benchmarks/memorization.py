"""Seconds of memorization metrics: one pass and a few tokens, or padded prompts and long texts.

`python -m benchmarks.memorization` writes `benchmarks/results/memorization.json` and a table beside
it. A GPT-2-shaped model of 6 blocks x 256, vocabulary 50,257, random weights, so that every record
disagrees at its first token: the worst case of what has to be generated. 32 response tokens are
judged. The published way pads every prompt to 256 tokens and generates 320 (a total of 576) for any
of the metrics. The ways take turns; a ratio is the median over rounds of the ratio within a round.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from audits.memorization.greedy_continuation import Request
from audits.memorization.greedy_decoding import continue_greedily
from audits.memorization.judging import judge
from audits.memorization.metrics import (
    ExactMatch,
    MemorizationMetric,
    TokenAccuracy,
)
from audits.scoring.model_access import ModelAccess
from benchmarks.sampling import VOCABULARY_SIZE
from common.ranks import Ranks
from datamodules.batches import EncodedRecord, RecordEncoder
from datamodules.prompts import PromptTemplate
from datamodules.tokenizer import train_tokenizer
from kdmodules.models.causal_lm import CausalLM

PADDED_PROMPT, TOTAL = 256, 576
PUBLISHED, ACCURACY, EXACT = "published: padded, 320 tokens", "token accuracy", "exact match"
TARGETS = {ACCURACY: 10.0, EXACT: 20.0}
RESULTS = Path(__file__).parent / "results"


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show no bar."""
    yield lambda: None


def build_access() -> ModelAccess:
    """Return a seeded 6 x 256 GPT-2 and an encoder that lends it eos and padding."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY_SIZE, n_embd=256, n_layer=6, n_head=4)
    lm = CausalLM(GPT2LMHeadModel(config).eval(), VOCABULARY_SIZE)
    template = PromptTemplate("{instruction}\n{context}\n", "{instruction}\n")
    encoder = RecordEncoder(train_tokenizer(["a b"], 258), template, 256, 512)
    return ModelAccess(lm, encoder, Ranks(), 8, 16_384, 0, silent)


def build_records(n: int) -> list[EncodedRecord]:
    """Return records of 40 to 200 prompt and 32 to 100 response tokens, as Dolly's."""
    draw = np.random.default_rng(0)
    return [
        EncodedRecord(
            f"record-{row}",
            "open_qa",
            tuple(draw.integers(300, VOCABULARY_SIZE, size=draw.integers(40, 200)).tolist()),
            tuple(draw.integers(300, VOCABULARY_SIZE, size=draw.integers(32, 100)).tolist()),
            prompt_cut=False,
            response_cut=True,
        )
        for row in range(n)
    ]


def published(access: ModelAccess, records: Sequence[EncodedRecord]) -> None:
    """Generate up to the total length from prompts padded to one width."""
    width = PADDED_PROMPT
    padding = [width - len(record.prompt_ids) for record in records]
    pairs = list(zip(padding, records, strict=True))
    ids = torch.tensor([[0] * pad + list(record.prompt_ids) for pad, record in pairs])
    mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in padding])
    config = GenerationConfig(
        max_new_tokens=TOTAL - width, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    with torch.no_grad():
        access.lm.model.generate(ids, attention_mask=mask, generation_config=config)


def ours(
    access: ModelAccess, records: Sequence[EncodedRecord], metrics: Sequence[MemorizationMetric]
) -> None:
    """Continue greedily and judge."""

    def requests(record: EncodedRecord) -> list[Request]:
        return [request for metric in metrics for request in metric.requests(record)]

    def read_tokens(record: EncodedRecord) -> int:
        return max(metric.read_tokens(record) for metric in metrics)

    with torch.no_grad():
        continuations = continue_greedily(access, records, requests, read_tokens=read_tokens)
    for metric in metrics:
        judge(metric, "private", continuations, list(range(len(records))))


def time_ways(candidates: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return each way's seconds per round; the quick ways run once before."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for name in TARGETS:
        candidates[name]()
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Time, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--records", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    access, records = build_access(), build_records(options.records)
    exact: list[MemorizationMetric] = [ExactMatch(0, 32)]
    candidates: dict[str, Callable[[], None]] = {
        PUBLISHED: lambda: published(access, records),
        ACCURACY: lambda: ours(access, records, [TokenAccuracy()]),
        EXACT: lambda: ours(access, records, exact),
    }
    seconds = time_ways(candidates, options.rounds)
    lines = ["| Way | s | x faster | target |", "| --- | --- | --- | --- |"]
    for name, times in seconds.items():
        pairs = zip(seconds[PUBLISHED], times, strict=True)
        ratio = statistics.median(slow / own for slow, own in pairs)
        target = f"{TARGETS[name]:g}" if name in TARGETS else ""
        lines.append(f"| {name} | {statistics.median(times):.2f} | {ratio:.1f} | {target} |")
    report = {
        "records": options.records,
        "threads": options.threads,
        "torch": torch.__version__,
        "seconds": seconds,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memorization.json").write_text(json.dumps(report, indent=2) + "\n")
    text = "\n".join(lines) + "\n"
    (RESULTS / "memorization.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
