"""What grows in the scaling benchmark, and what is done at each size."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from audits.blocks.signals import BlockAccess, BlockMoPe
from audits.memorization.metrics import TokenAccuracy
from audits.scoring.blind_baseline import BlindOptions, BlindSide, blind_baseline
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from audits.scoring.scoring_pass import score_records
from benchmarks.memorization import ours as continue_and_judge
from benchmarks.memorization import silent
from benchmarks.scoring_memory import TEMPLATE, World
from common.ranks import Ranks
from datamodules.batches import EncodedRecord, RecordEncoder
from datamodules.near_duplicates import cluster_records
from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from kdmodules.losses import ForwardKL, KDStep
from kdmodules.models.causal_lm import CausalLM

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
        with tempfile.TemporaryDirectory() as folder:
            world.audit(world.records, Path(folder))

    return work


def near_duplicates(n: int) -> Work:
    """The clusters that splits and intervals keep together."""
    records = generate_records(n, seed=1)
    return lambda: cluster_records(records)


def shift_test(n: int) -> Work:
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
        score_records(access_of(lm), encoded, "")


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


def continuation(n: int) -> Work:
    """Token accuracy of so many records, 32 response tokens each."""
    access, encoded = access_of(model()), records_of(n, 32)
    return lambda: continue_and_judge(access, encoded, [TokenAccuracy()])


AXES = (
    Axis("membership audit, records", (1_000, 3_000, 10_000, 30_000, 100_000), audit),
    Axis(
        "near-duplicate clusters, records", (1_000, 3_000, 10_000, 30_000, 100_000), near_duplicates
    ),
    Axis("blind baseline, records", (1_000, 2_000, 4_000, 8_000, 16_000), shift_test),
    Axis("token accuracy, records", (64, 128, 256, 512, 1024), continuation),
    Axis(
        "scoring, response tokens",
        (32, 64, 128, 256, 512),
        scoring,
        "attention compares every token with those before it",
    ),
    Axis("scoring, vocabulary", (4_096, 8_192, 16_384, 32_768, 65_536), scoring_vocabulary),
    Axis("objective, scored tokens", (128, 256, 512, 1024, 2048), lambda n: objective(n, 8_192)),
    Axis(
        "objective, vocabulary",
        (4_096, 8_192, 16_384, 32_768, 65_536, 131_072, 262_144),
        lambda n: objective(256, n),
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
