"""Which block signals point at the block that learnt the members? Planted models, measured.

`python -m benchmarks.block_localisation` writes `benchmarks/results/block_localisation.md`. A small
GPT-2 learns public records of a Markov chain; then one block k alone is trained on the members, all
else frozen. A signal points at the block whose AUROC has risen most over the model before that
training, away from 0.5 where the signal has no sign of its own. Every block is planted in turn,
with several seeds; pointing blindly is right in one case of the number of blocks.
"""

import argparse
import copy
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from audits.blocks.profile import MeasuredSide, Profile
from audits.blocks.recording import record_signals
from audits.blocks.rows import title
from audits.blocks.signals import (
    Attribution,
    BlockAccess,
    BlockGradNorm,
    BlockMoPe,
    BlockSignal,
    BlockSwap,
    HiddenProbe,
    LogitLens,
    RecordedSignal,
    RerunSignal,
    ResidualNorm,
    TunedLens,
)
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from common.keys import numpy_generator
from common.ranks import Ranks
from datamodules.batches import EncodedRecord, RecordEncoder, collate
from datamodules.prompts import PromptTemplate
from datamodules.tokenizer import train_tokenizer
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM
from kdmodules.token_means import supervised_sums

VOCABULARY, PROMPT_TOKENS, RESPONSE_TOKENS = 64, 6, 16
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Planted:
    """A model of which one block was trained on the members.

    Attributes:
        before: The model before that training.
        after: The model after it.
        members: What the block was trained on.
        nonmembers: Records of the same distribution.
        development: More of them, which no model met and no audit reads.
    """

    before: ModelAccess
    after: ModelAccess
    members: list[EncodedRecord]
    nonmembers: list[EncodedRecord]
    development: list[EncodedRecord]


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show no bar."""
    yield lambda: None


def plant(
    block: int,
    seed: int,
    n_blocks: int = 4,
    width: int = 48,
    n_records: int = 48,
    steps: int = 100,
    leak_steps: int = 30,
) -> Planted:
    """Train a model on public records, then one of its blocks on the members.

    With more leak steps AUROCs reach 1, where every block says the same.
    """
    draw = numpy_generator(seed, "planted blocks")
    chain = draw.dirichlet(np.full(VOCABULARY, 0.1), size=VOCABULARY)
    records = [_record(index, chain, draw) for index in range(6 * n_records)]
    members, nonmembers = records[:n_records], records[n_records : 2 * n_records]
    public, development = records[2 * n_records : 4 * n_records], records[4 * n_records :]
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=width, n_layer=n_blocks, n_head=2, n_positions=64,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    lm = CausalLM(GPT2LMHeadModel(config).eval(), VOCABULARY)
    template = PromptTemplate("{instruction}\n{context}\n", "{instruction}\n")
    encoder = RecordEncoder(train_tokenizer(["a b"], 258), template, 32, 64)
    access = ModelAccess(lm, encoder, Ranks(), n_records, 8192, seed, silent)
    train(lm, public, list(lm.parameters()), steps)
    before = replace(access, lm=copy.deepcopy(lm))
    train(lm, members, list(transformer_blocks(lm.model)[block].parameters()), leak_steps)
    return Planted(before, access, members, nonmembers, development)


def _record(index: int, chain: np.ndarray, draw: np.random.Generator) -> EncodedRecord:
    ids = [int(draw.integers(VOCABULARY))]
    while len(ids) < PROMPT_TOKENS + RESPONSE_TOKENS:
        ids.append(int(draw.choice(VOCABULARY, p=chain[ids[-1]])))
    prompt, response = tuple(ids[:PROMPT_TOKENS]), tuple(ids[PROMPT_TOKENS:])
    return EncodedRecord(f"r{index}", "open_qa", prompt, response, False, True)


def train(
    lm: CausalLM, records: Sequence[EncodedRecord], weights: list[torch.nn.Parameter], steps: int
) -> None:
    """Fit some weights to records in place."""
    batch = collate(records, 0)
    optimizer = torch.optim.AdamW(weights, lr=3e-3)
    for _ in range(steps):
        sums = supervised_sums(lm, batch)
        lm.zero_grad()
        (sums["loss"] / sums["tokens"]).backward()
        optimizer.step()
    lm.zero_grad()


def profiles(
    signal: BlockSignal, access: ModelAccess, planted: Planted, donor: ModelAccess
) -> list[Profile]:
    """Return what a signal says of a model's blocks."""
    reference = ReferenceModel(donor.lm, donor.encoder)
    whole = BlockAccess(access, lambda name: reference, *[lambda: planted.development] * 2)
    with torch.no_grad():
        fitted = signal.fitted(whole)
        sides = [
            MeasuredSide(
                _measure(fitted, whole, of),
                ["open_qa"] * len(of),
                np.arange(len(of)) + first,
            )
            for of, first in ((planted.members, 0), (planted.nonmembers, len(planted.members)))
        ]
    return fitted.oppose(*sides)


def _measure(signal: BlockSignal, access: BlockAccess, of: list[EncodedRecord]) -> torch.Tensor:
    if isinstance(signal, RecordedSignal):
        return record_signals(access.model, of, [signal])[0]
    if not isinstance(signal, RerunSignal):
        raise TypeError(f"{signal.name} neither reads nor reruns")
    return signal.measure(access, of)


def areas(profile: Profile) -> dict[int, float]:
    """Return the AUROC of every block that has one."""
    return {
        one.block: one.value
        for one in profile.figures
        if one.metric == "auroc" and one.block is not None and one.value is not None
    }


def signals(conductance_steps: int = 16) -> list[BlockSignal]:
    """Return what is measured; the swap's donor is the model before."""
    return [
        LogitLens(),
        TunedLens(),
        ResidualNorm(),
        HiddenProbe(),
        BlockGradNorm(),
        BlockMoPe(5, 0.1),
        BlockMoPe(10, None, 0.005, antithetic=False),
        Attribution(conductance_steps),
        BlockSwap("before", max_nll_rise=100.0),
    ]


def _label(profile: Profile) -> str:
    own = title(profile.name, profile.params)
    return f"{own}, one sign" if profile.params.get("antithetic") is False else own


def rises(planted: Planted) -> dict[str, dict[int, float]]:
    """Return every reading's rise of its AUROC by block; a swap's is the AUROC taken away."""
    found = {}
    for signal in signals(conductance_steps=8):
        after = profiles(signal, planted.after, planted, planted.before)
        if isinstance(signal, BlockSwap):
            found |= {_label(one): _moved(one) for one in after}
            continue
        undirected = isinstance(signal, (ResidualNorm, Attribution))
        before = profiles(signal, planted.before, planted, planted.before)
        for ours, theirs in zip(after, before, strict=True):
            now, then = areas(ours), areas(theirs)
            found[_label(ours)] = {
                block: abs(now[block] - 0.5) - abs(then[block] - 0.5)
                if undirected
                else now[block] - then[block]
                for block in now
            }
    return found


def _moved(swap: Profile) -> dict[int, float]:
    """Return the AUROC that every block takes away from the model, or brings to the donor."""
    sign = -1.0 if swap.params["measure"] == "donor_into_model" else 1.0
    return {
        one.block: sign * one.value
        for one in swap.figures
        if one.metric == "auroc_change" and one.block is not None and one.value is not None
    }


def table(n_blocks: int, seeds: Sequence[int], leak_steps: int) -> str:
    """Return the share of planted blocks that each reading points at, and its rises."""
    hits: dict[str, list[bool]] = defaultdict(list)
    at: dict[str, list[float]] = defaultdict(list)
    elsewhere: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        for block in range(n_blocks):
            for name, rise in rises(plant(block, seed, n_blocks, leak_steps=leak_steps)).items():
                others = max(own for one, own in rise.items() if one != block)
                hits[name].append(rise.get(block, -1.0) > others)
                if block in rise:
                    at[name].append(rise[block])
                elsewhere[name].append(others)
    lines = [
        "| Reading | points at the trained block | its rise there | largest rise elsewhere |",
        "| --- | --- | --- | --- |",
    ]
    for name, own in hits.items():
        means = f"{np.mean(at[name]):.2f} | {np.mean(elsewhere[name]):.2f}"
        lines.append(f"| {name} | {sum(own)} of {len(own)} | {means} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--leak-steps", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = table(options.blocks, range(options.seeds), options.leak_steps)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "block_localisation.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
