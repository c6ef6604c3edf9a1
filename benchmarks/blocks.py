"""Seconds and memory of block signals: blocks run again from where they differ, or whole copies.

`python -m benchmarks.blocks` writes `benchmarks/results/blocks.json` and a table beside it. A
GPT-2-shaped model of 6 blocks x 256, vocabulary 50,257, records of Dolly's lengths, noise on every
block with 3 draws of one sign, as published. Ways:

- published: a noisy copy is written to disk, read back and run with all logits at a fixed width;
  one copy is timed and counted 18 times;
- in place: the same noise in place, whole passes, sorted, the head on response positions alone;
- cached: this project's, which runs only what lies behind the disturbed block;
- bare forward: one pass with all logits, sorted; beside it the recording pass of the signals that
  only read, the logit lens on the middle and the last block.

With the trunk T and the head H timed alone, theory says T (1 + draws (L + 1) / 2) + H (1 + draws L)
for the cached way. The ways take turns; a ratio is the median over rounds of the ratio within one.
Memory is the process's peak after a quarter of the records and after all of them.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from audits.blocks.readout import record_means
from audits.blocks.recording import record_signals
from audits.blocks.signals import (
    BlockAccess,
    BlockMoPe,
    HiddenProbe,
    LogitLens,
    RecordedSignal,
    ResidualNorm,
)
from audits.blocks.weights import weights_by_block
from audits.membership.signals.weight_noise import weight_noise
from audits.membership.signals.weight_shards import given_back
from audits.scoring.batches import over_batches
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from benchmarks.memorization import build_access, build_records
from datamodules.batches import EncodedRecord, InstructionBatch, collate
from kdmodules.models.causal_lm import CausalLM
from kdmodules.scoring import token_statistics

DRAWS, SIGMA, WIDTH, N_BLOCKS = 3, 0.005, 512, 6
COPIES = DRAWS * N_BLOCKS
PUBLISHED, IN_PLACE, CACHED = "published: copies on disk", "in place, whole passes", "cached"
TRUNK, HEAD, BARE, CHEAP = "trunk alone", "head alone", "bare forward", "recording, three signals"
THEORY = "theory of the cached way"
RESULTS = Path(__file__).parent / "results"
Way = Callable[[ModelAccess, Sequence[EncodedRecord]], object]


def published(access: ModelAccess, records: Sequence[EncodedRecord]) -> None:
    """Write, read and run one noisy copy at a fixed width with all logits."""
    weights = weights_by_block(access.lm, "benchmark")[0]
    with tempfile.TemporaryDirectory() as folder:
        with given_back(weights):
            disturb(weights, draw=0)
            access.lm.model.save_pretrained(folder)
        noisy = GPT2LMHeadModel.from_pretrained(folder).eval()
        for start in range(0, len(records), access.batch_size):
            batch = collate(records[start : start + access.batch_size], 0)
            ids = torch.zeros(len(batch.record_ids), WIDTH, dtype=torch.int64)
            ids[:, : batch.input_ids.shape[1]] = batch.input_ids
            noisy(ids).logits.log_softmax(dim=-1)


def disturb(weights: dict[str, torch.nn.Parameter], draw: int) -> None:
    """Add noise to weights in place."""
    for name, weight in weights.items():
        weight.add_(weight_noise(weight, 0, draw, name), alpha=SIGMA)


def in_place(access: ModelAccess, records: Sequence[EncodedRecord]) -> None:
    """Disturb each block in place and run the whole model."""
    over_batches(access, records, "", whole)
    for weights in weights_by_block(access.lm, "benchmark"):
        for draw in range(DRAWS):
            with given_back(weights):
                disturb(weights, draw)
                over_batches(access, records, "", whole)


def whole(lm: CausalLM, batch: InstructionBatch) -> Tensor:
    """Return the mean log-likelihoods of one pass, the head on response positions alone."""
    scores = token_statistics(lm.hidden(batch), lm.head, batch.targets())
    return record_means(scores.logp, batch)


def trunk(lm: CausalLM, batch: InstructionBatch) -> Tensor:
    """Return the trunk's states of every record's first token."""
    return lm.states(batch.input_ids, batch.attention_mask)[:, 0]


def head(lm: CausalLM, batch: InstructionBatch) -> Tensor:
    """Return log-likelihoods read from the token embeddings: the head without a trunk."""
    rows = lm.model.get_input_embeddings()(batch.input_ids)[:, :-1][batch.response_mask[:, 1:]]
    return record_means(token_statistics(rows, lm.head, batch.targets()).logp, batch)


def bare(lm: CausalLM, batch: InstructionBatch) -> Tensor:
    """Return the logits of every record's last position after a pass with all of them."""
    return lm.model(batch.input_ids).logits[:, -1]


def cached(access: ModelAccess, records: Sequence[EncodedRecord]) -> None:
    """Measure as the audit does."""
    signal = BlockMoPe(DRAWS, None, SIGMA, antithetic=False)
    signal.measure(BlockAccess(access, no_reference), records)


def cheap(access: ModelAccess, records: Sequence[EncodedRecord]) -> None:
    """Record what only reads."""
    signals: list[RecordedSignal] = [
        LogitLens([N_BLOCKS // 2 - 1, N_BLOCKS - 1]),
        ResidualNorm(),
        HiddenProbe(),
    ]
    record_signals(access, records, signals)


def no_reference(name: str) -> ReferenceModel:
    """There is none."""
    raise LookupError(name)


def batchwise(compute: Callable[[CausalLM, InstructionBatch], Tensor]) -> Way:
    """Return a way that runs a computation over all batches."""
    return lambda access, records: over_batches(access, records, "", compute)


WAYS: dict[str, Way] = {
    TRUNK: batchwise(trunk),
    HEAD: batchwise(head),
    CACHED: cached,
    IN_PLACE: in_place,
    PUBLISHED: published,
    BARE: batchwise(bare),
    CHEAP: cheap,
}


def round_seconds(access: ModelAccess, records: Sequence[EncodedRecord]) -> dict[str, float]:
    """Return every way's seconds, and the theory's, in one round."""
    seconds = {}
    for name, run in WAYS.items():
        start = time.perf_counter()
        run(access, records)
        seconds[name] = time.perf_counter() - start
    seconds[PUBLISHED] *= COPIES
    trunks, heads = 1 + DRAWS * (N_BLOCKS + 1) / 2, 1 + COPIES
    seconds[THEORY] = trunks * seconds[TRUNK] + heads * seconds[HEAD]
    return seconds


def table(rounds: Sequence[dict[str, float]]) -> str:
    """Return the ratios with their targets."""

    def ratio(over: str, under: str) -> float:
        return statistics.median(one[over] / one[under] for one in rounds)

    lines = [
        "| Ratio within a round | found | target |",
        "| --- | --- | --- |",
        f"| cached / theory | {ratio(CACHED, THEORY):.2f} | at most 1.10 |",
        f"| cached / in place | {ratio(CACHED, IN_PLACE):.2f} | |",
        f"| published / cached | {ratio(PUBLISHED, CACHED):.1f} | at least 4 |",
        f"| recording / bare forward | {ratio(CHEAP, BARE):.2f} | at most 1.5 |",
    ]
    return "\n".join(lines) + "\n"


def peak_mib() -> float:
    """Return the process's peak memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Time, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--records", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    access = build_access()
    records = sorted(build_records(options.records), key=len, reverse=True)
    with torch.no_grad():
        peaks = []
        for share in (records[: len(records) // 4], records):
            cached(access, share)
            peaks.append(peak_mib())
        rounds = [round_seconds(access, records) for _ in range(options.rounds)]
    text = table(rounds) + f"\nPeak memory: {peaks[0]:.0f} MiB after a quarter of the records, "
    text += f"{peaks[1]:.0f} MiB after all of them.\n"
    report = {
        "records": options.records,
        "threads": options.threads,
        "torch": torch.__version__,
        "seconds": rounds,
        "peak_mib": peaks,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "blocks.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "blocks.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
