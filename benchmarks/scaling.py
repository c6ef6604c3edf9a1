"""How cost grows: exponents of time against records, tokens, vocabulary, blocks, draws, ranks.

`python -m benchmarks.scaling` writes `benchmarks/results/scaling.json` and `.md`. A figure is the
processor time of one thread, so that a busy machine matters little; on one axis only its own
quantity changes. The exponent is the slope of log seconds on log size over the three largest sizes,
where fixed costs count for least, with Student's 95% interval over all repetitions there. 1 is
linear. An axis whose interval lies above 1.1 needs a reason, which stands beside it.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.memorization import ours as recite_and_judge
from benchmarks.memorization import silent
from benchmarks.scaling_ranks import processor_seconds_of_ranks
from benchmarks.scoring import describe_machine
from benchmarks.scoring_memory import TEMPLATE, World
from callbacks.blocks.signals import BlockAccess, BlockMoPe
from callbacks.membership.blind import BlindOptions, BlindSide, blind_baseline
from callbacks.membership.collection import ReferenceModel
from callbacks.membership.signals import ModelAccess
from callbacks.memorization.metrics import TokenAccuracy
from callbacks.ranks import Ranks
from callbacks.scoring_pass import score_records
from datamodules.batches import EncodedRecord, RecordEncoder
from datamodules.near_duplicates import cluster_records
from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from kdmodules.causal_lm import CausalLM
from kdmodules.losses import ForwardKL, KDStep

RESULTS = Path(__file__).parent / "results"
LINEAR = 1.1
LARGEST = 3
Work = Callable[[], object]


@dataclass(frozen=True)
class Axis:
    """What grows, and what is done at each size.

    Attributes:
        name: Of the axis.
        sizes: Growing.
        prepare: Returns the work of a size; its own time is not counted.
        reason: Why it may grow faster than linearly; empty where it may not.
    """

    name: str
    sizes: tuple[int, ...]
    prepare: Callable[[int], Work]
    reason: str = ""


@dataclass(frozen=True)
class Growth:
    """What an axis was found to cost.

    Attributes:
        name: Of the axis.
        sizes: Of the figures.
        seconds: Processor seconds of every repetition of every size.
        exponent: Slope at the largest sizes.
        lower: Of its interval.
        upper: Of its interval.
        reason: See :class:`Axis`.
    """

    name: str
    sizes: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]
    exponent: float
    lower: float
    upper: float
    reason: str

    @property
    def verdict(self) -> str:
        """Linear or less, faster for a reason, or faster."""
        if self.lower <= LINEAR:
            return "linear or less"
        return self.reason or "FASTER THAN LINEAR"


def fit(sizes: Sequence[int], seconds: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Returns the slope of log seconds on log size with its 95% interval.

    Args:
        sizes: At least three.
        seconds: Repetitions at each size.
    """
    x = np.log(np.repeat(sizes, [len(one) for one in seconds]))
    y = np.log(np.concatenate([np.asarray(one) for one in seconds]))
    line = stats.linregress(x, y)
    half = float(stats.t.ppf(0.975, len(x) - 2)) * float(line.stderr)
    return float(line.slope), float(line.slope) - half, float(line.slope) + half


def measure(axis: Axis, repeats: int) -> Growth:
    """Runs every size, all of them in turn in every repetition."""
    seconds: list[list[float]] = [[] for _ in axis.sizes]
    for _ in range(repeats):
        for place, size in enumerate(axis.sizes):
            work = axis.prepare(size)
            began = time.process_time()
            work()
            seconds[place].append(time.process_time() - began)
    slope, lower, upper = fit(axis.sizes[-LARGEST:], seconds[-LARGEST:])
    sys.stderr.write(f"{axis.name}: {slope:.2f} [{lower:.2f}, {upper:.2f}]\n")
    figures = tuple(tuple(one) for one in seconds)
    return Growth(axis.name, axis.sizes, figures, slope, lower, upper, axis.reason)


def model(vocabulary: int = 1024, blocks: int = 2, width: int = 64) -> CausalLM:
    """Returns a seeded GPT-2-shaped model."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_layer=blocks,
        n_embd=width,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    return CausalLM(GPT2LMHeadModel(config).eval(), vocabulary)


def records_of(n: int, tokens: int, vocabulary: int = 1024) -> list[EncodedRecord]:
    """Returns records of 16 prompt tokens and so many response tokens, drawn at random."""
    draw = np.random.default_rng(0)
    return [
        EncodedRecord(
            f"record-{row}",
            "",
            tuple(draw.integers(vocabulary, size=16).tolist()),
            tuple(draw.integers(vocabulary, size=tokens).tolist()),
            prompt_cut=False,
            response_cut=True,
        )
        for row in range(n)
    ]


def access_of(lm: CausalLM) -> ModelAccess:
    """Returns a model with an encoder that lends it eos and padding."""
    encoder = RecordEncoder(train_tokenizer(["a b"], 258), TEMPLATE, 256, 512)
    return ModelAccess(lm, encoder, Ranks(), 16, 8192, 0, silent)


def audit(n: int) -> Work:
    """A membership audit of seven attacks with one reference, tables included."""
    world = World(n)

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
            world.audit(world.records, Path(folder))

    return work


def near_duplicates(n: int) -> Work:
    """The clusters that splits and intervals keep together."""
    records = generate_records(n, seed=1)
    return lambda: cluster_records(records)


def gate(n: int) -> Work:
    """The blind baseline of two sides of so many records together."""
    records = generate_records(n, seed=1)
    sides = [BlindSide(part, np.arange(len(part))) for part in (records[::2], records[1::2])]
    return lambda: blind_baseline(sides[0], sides[1], BlindOptions())


def scoring(tokens: int) -> Work:
    """Token statistics of 64 records of so many response tokens."""
    lm, encoded = model(), records_of(64, tokens)
    return lambda: _score(lm, encoded)


def scoring_vocabulary(vocabulary: int) -> Work:
    """Token statistics of 32 records under so large a vocabulary."""
    lm, encoded = model(vocabulary), records_of(32, 64)
    return lambda: _score(lm, encoded)


def _score(lm: CausalLM, encoded: Sequence[EncodedRecord]) -> None:
    with torch.no_grad():
        score_records(lm, encoded, 0, Ranks(), 16, 8192, lambda total: silent("", total))


def objective(tokens: int, vocabulary: int) -> Work:
    """Forward KL from hidden states, forward and backward."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    states = normal(tokens, 64).requires_grad_()
    weight = normal(vocabulary, 64).requires_grad_()
    step = KDStep(
        student_hidden=states,
        student_weight=weight,
        targets=torch.randint(vocabulary, (tokens,), generator=generator),
        teachers=((normal(tokens, 64), normal(vocabulary, 64)),),
        vocabulary_size=vocabulary,
    )
    return lambda: ForwardKL()(step).total.backward()


def trunk(blocks: int) -> Work:
    """A forward and backward pass of the blocks over 8 records of 128 tokens."""
    lm = model(blocks=blocks).train()
    ids = torch.randint(1024, (8, 128))
    return lambda: lm(lambda lm: lm.states(ids, torch.ones_like(ids))).sum().backward()


def block_mope(blocks: int, draws: int) -> Work:
    """Weight noise on every block, 16 records."""
    access, encoded = access_of(model(blocks=blocks)), records_of(16, 48)

    def no_reference(name: str) -> ReferenceModel:
        raise LookupError(name)

    return lambda: BlockMoPe(draws).measure(BlockAccess(access, no_reference), encoded)


def recital(n: int) -> Work:
    """Token accuracy of so many records, 32 response tokens each."""
    access, encoded = access_of(model()), records_of(n, 32)
    return lambda: recite_and_judge(access, encoded, [TokenAccuracy()])


AXES = (
    Axis("membership audit, records", (1_000, 3_000, 10_000, 30_000, 100_000), audit),
    Axis(
        "near-duplicate clusters, records", (1_000, 3_000, 10_000, 30_000, 100_000), near_duplicates
    ),
    Axis("blind baseline, records", (1_000, 2_000, 4_000, 8_000, 16_000), gate),
    Axis("token accuracy, records", (64, 128, 256, 512, 1024), recital),
    Axis(
        "scoring, response tokens",
        (32, 64, 128, 256, 512),
        scoring,
        "attention compares every token with those before it",
    ),
    Axis("scoring, vocabulary", (4_096, 8_192, 16_384, 32_768, 65_536), scoring_vocabulary),
    Axis("objective, scored tokens", (128, 256, 512, 1024, 2048), lambda n: objective(n, 8_192)),
    Axis(
        "objective, vocabulary", (4_096, 8_192, 16_384, 32_768, 65_536), lambda n: objective(256, n)
    ),
    Axis("training pass, blocks", (2, 4, 8, 16, 32), trunk),
    Axis(
        "block_mope, blocks",
        (2, 4, 8, 16, 24),
        lambda n: block_mope(n, 3),
        "every block's noise runs the blocks behind it: L (L + 1) / 2 of them, exponent 2",
    ),
    Axis("block_mope, draws", (3, 6, 12, 24), lambda n: block_mope(4, n)),
)


def as_markdown(found: Sequence[Growth], ranks: dict[int, float], machine: str) -> str:
    """The table of exponents, and what several ranks cost together."""
    lines = [
        "# How cost grows",
        "",
        machine,
        "",
        "| Cost of, against | from | to | s at the largest | exponent | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {one.name} | {one.sizes[0]:,} | {one.sizes[-1]:,} | "
            f"{float(np.median(one.seconds[-1])):.2f} | {one.exponent:.2f} "
            f"[{one.lower:.2f}, {one.upper:.2f}] | {one.verdict} |"
            for one in found
        ),
        "",
        "Processor seconds of one thread; the exponent is that of the three largest sizes.",
        "",
        "A scoring pass dealt to ranks, processor seconds of all together over those of one:",
        ", ".join(f"{seconds / ranks[1]:.2f} with {n}" for n, seconds in ranks.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measures all axes, or those whose name holds a word."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="repetitions of every size")
    parser.add_argument("--only", default="", help="axes whose name holds this")
    parser.add_argument("--most", type=float, default=math.inf, help="largest size of an axis")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for both files")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    chosen = [
        replace(axis, sizes=tuple(size for size in axis.sizes if size <= options.most))
        for axis in AXES
        if options.only in axis.name
    ]
    few = [axis.name for axis in chosen if len(axis.sizes) < LARGEST]
    if few or not chosen:
        parser.error(f"fewer than {LARGEST} sizes of {few}" if few else f"no axis {options.only}")
    found = [measure(axis, options.repeats) for axis in chosen]
    ranks = {n: processor_seconds_of_ranks(n) for n in (1, 2)}
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    content = {"machine": machine, "axes": [asdict(one) for one in found], "ranks": ranks}
    (options.out / "scaling.json").write_text(json.dumps(content, indent=1) + "\n")
    text = as_markdown(found, ranks, machine)
    (options.out / "scaling.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
