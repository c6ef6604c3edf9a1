"""Every attack finds a planted leak, and none finds anything in a model that was not trained."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from callbacks.membership.attacks import (
    DCPDD,
    PAC,
    RMIA,
    Attack,
    ConRecall,
    GradNorm,
    LiRA,
    Loss,
    Lowercase,
    MinK,
    MinKPlusPlus,
    MoPe,
    Neighbour,
    Recall,
    Reference,
    SaMIA,
    Zlib,
)
from callbacks.membership.collection import Collector, ReferenceModel
from callbacks.membership.measurements import Scored
from callbacks.membership.plan import AuditPlan
from callbacks.membership.signals import ModelAccess
from callbacks.membership.token_statistics import TokenStatistics
from callbacks.membership.view import AuditView
from callbacks.ranks import Ranks
from callbacks.scoring_pass import score_records
from callbacks.statistics import auroc, holm, swap_estimate
from datamodules.batches import RecordEncoder, collate
from datamodules.records import InstructionRecord
from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from kdmodules.causal_lm import CausalLM
from kdmodules.language_model import supervised_sums

pytestmark = pytest.mark.slow

SIDE = 200
# On a coin's toss alone, in the order of the corpus: both sides come from one distribution.
CORPUS = generate_records(2 * SIDE + 120, seed=5)
MEMBERS, NONMEMBERS = CORPUS[: 2 * SIDE : 2], CORPUS[1 : 2 * SIDE : 2]
SHOTS, NEVER = CORPUS[2 * SIDE : 2 * SIDE + 20], CORPUS[2 * SIDE + 20 :]
ATTACKS: tuple[Attack, ...] = (
    *(Loss(), Zlib(), MinK(), MinKPlusPlus(), DCPDD(a=1.0, max_blocks=40), Reference()),
    *(RMIA(["base"]), LiRA(["base"]), Lowercase(), Neighbour(copies=4), PAC(), Recall(shots=3)),
    *(ConRecall(shots=3), GradNorm(), MoPe(), SaMIA(samples=2)),
)


@pytest.fixture(scope="module")
def encoder() -> RecordEncoder:
    texts = [record.response for record in CORPUS]
    return RecordEncoder(train_tokenizer(texts, 400), max_prompt_tokens=160, max_tokens=256)


def fresh(encoder: RecordEncoder, seed: int) -> CausalLM:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(encoder.tokenizer), n_layer=2, n_embd=64, n_head=2, n_positions=1024
    )
    return CausalLM(GPT2LMHeadModel(config).eval(), len(encoder.tokenizer))


def trained(encoder: RecordEncoder, records: Sequence[InstructionRecord], steps: int) -> CausalLM:
    lm = fresh(encoder, seed=0)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=3e-3)
    encoded = encoder.encode_all(records)
    order = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(encoded), (32,), generator=order).tolist()
        sums = supervised_sums(lm, collate([encoded[row] for row in rows], encoder.pad_id))
        optimizer.zero_grad()
        (sums["loss"] / sums["tokens"]).backward()
        optimizer.step()
    return lm


def silent(title: str, total: int) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None)


def p_values(
    lm: CausalLM, base: CausalLM, encoder: RecordEncoder
) -> dict[str, tuple[float, float]]:
    """AUROC and one-sided p-value of every attack."""
    access = ModelAccess(lm, encoder, Ranks(), 64, 16384, 0, silent)
    populations = {"private": MEMBERS, "held_out": NONMEMBERS}

    def own(name: str) -> TokenStatistics:
        encoded = encoder.encode_all(populations[name])
        bar = partial(silent, "")
        return score_records(lm, encoded, encoder.pad_id, Ranks(), 64, 16384, bar)

    collector = Collector(
        access=access,
        load_reference=lambda name: ReferenceModel(base, encoder),
        own_pass=own,
        weights_hash=lambda _: "",
        pool_records=lambda side, use: (
            SHOTS[: len(SHOTS) // 2] if side == "held_out" else SHOTS[len(SHOTS) // 2 :]
        ),
        never_records=lambda: NEVER,
        met=lambda name, records: [False] * len(records),
    )
    views = collector.collect(AuditPlan.of(ATTACKS), populations)
    found = {}
    for attack in ATTACKS:
        members, nonmembers = (_scores(attack, views[name]) for name in ("private", "held_out"))
        estimate = auroc(members, nonmembers)
        spread = (estimate.upper - estimate.lower) / (2 * 1.96)
        found[attack.name] = (estimate.value, _tail((estimate.value - 0.5) / spread))
    return found


def _tail(z: float) -> float:
    return float(0.5 * torch.erfc(torch.tensor(z / 2**0.5, dtype=torch.float64)))


def _scores(attack: Attack, view: AuditView) -> np.ndarray:
    scorable = view.scorable_only()
    return attack.score(scorable.where(attack.defined(scorable))).numpy()


def test_every_attack_finds_an_over_trained_models_members(encoder: RecordEncoder) -> None:
    base = trained(encoder, NEVER, steps=60)
    found = p_values(trained(encoder, MEMBERS, steps=400), base, encoder)
    weak = {name: value for name, value in found.items() if value[1] > 0.001}
    assert not weak
    assert found["loss"][0] > 0.9


def test_no_attack_finds_anything_in_an_untrained_model(encoder: RecordEncoder) -> None:
    found = p_values(fresh(encoder, seed=1), fresh(encoder, seed=2), encoder)
    two_sided = [2 * min(p, 1 - p) for _, p in found.values()]
    assert min(holm(two_sided)) > 0.05


def losses_of(
    lm: CausalLM, encoder: RecordEncoder, sides: tuple[list[InstructionRecord], ...]
) -> tuple[np.ndarray, ...]:
    """Mean log-probability of every record, by side."""
    found = []
    for side in sides:
        encoded = encoder.encode_all(side)
        bar = partial(silent, "")
        table = score_records(lm, encoded, encoder.pad_id, Ranks(), 64, 16384, bar)
        found.append(Loss().score(AuditView(side, {Scored(): table})).numpy())
    return tuple(found)


def test_a_shift_fools_private_against_held_out_and_not_the_swap_estimate(
    encoder: RecordEncoder,
) -> None:
    """The held-out side is made to come from another source: one that shouts."""
    estimates = {}
    for shifted in (False, True):
        shout = str.upper if shifted else str
        held_out = [replace(one, response=shout(one.response)) for one in NONMEMBERS]
        sides = (list(MEMBERS), held_out)
        never = [*NEVER, *(replace(one, response=shout(one.response)) for one in NEVER)]
        clean = losses_of(trained(encoder, never, steps=60), encoder, sides)
        other = losses_of(trained(encoder, never[::-1], steps=60), encoder, sides)
        fooled = auroc(*clean)
        assert (max(fooled.lower, 1 - fooled.upper) > 0.8) == shifted
        nothing = swap_estimate(*clean, *other)
        assert nothing.lower < 0.5 < nothing.upper
        ours = losses_of(trained(encoder, [*never, *MEMBERS], steps=150), encoder, sides)
        theirs = losses_of(trained(encoder, [*never, *held_out], steps=150), encoder, sides)
        estimates[shifted] = swap_estimate(*ours, *theirs)
        assert estimates[shifted].lower > 0.5
    plain, shifted_estimate = estimates[False], estimates[True]
    assert plain.lower < shifted_estimate.upper
    assert shifted_estimate.lower < plain.upper
