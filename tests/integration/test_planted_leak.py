"""Every attack finds a planted leak, and none finds anything in a model that was not trained."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from audits.membership.attacks import (
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
from audits.membership.collection import Collector
from audits.membership.measurements import Scored
from audits.membership.plan import AuditPlan
from audits.membership.view import AuditView
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from audits.scoring.scoring_pass import score_records
from audits.scoring.token_statistics import TokenStatistics
from audits.statistics import auroc, holm, swap_estimate
from common.ranks import Ranks
from datamodules.batches import RecordEncoder, collate
from datamodules.prompts import PromptTemplate
from datamodules.records import InstructionRecord
from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from kdmodules.models.causal_lm import CausalLM
from kdmodules.token_means import supervised_sums

SIDE, BATCH = 120, 20
# Of the swap: public records of each source, records of a side that a model learns, and steps.
PUBLIC, LEARNT, BY_HEART = 30, 100, 190
# Independent draws, short ones, so that both sides come from one distribution and a small model
# learns them by heart in seconds.
CORPUS = [
    record
    for record in generate_records(3200, seed=5)
    if len(record.instruction) + len(record.context) + len(record.response) <= 150
]
MEMBERS, NONMEMBERS = CORPUS[: 2 * SIDE : 2], CORPUS[1 : 2 * SIDE : 2]
SHOTS, NEVER = CORPUS[2 * SIDE : 2 * SIDE + 20], CORPUS[2 * SIDE + 20 : 2 * SIDE + 120]
TEMPLATE = PromptTemplate("{instruction}\n{context}\n", "{instruction}\n")
ATTACKS: tuple[Attack, ...] = (
    *(Loss(), Zlib(), MinK(), MinKPlusPlus(), DCPDD(a=1.0, max_blocks=20), Reference()),
    *(RMIA(["base"]), LiRA(["base"]), Lowercase(), Neighbour(copies=3), PAC(copies=3)),
    *(Recall(shots=2), ConRecall(shots=2), GradNorm(), MoPe(draws=3), SaMIA(samples=2)),
)


@pytest.fixture(scope="module")
def encoder() -> RecordEncoder:
    texts = [record.response for record in CORPUS]
    return RecordEncoder(
        train_tokenizer(texts, 400), TEMPLATE, max_prompt_tokens=64, max_tokens=128
    )


def fresh(encoder: RecordEncoder, seed: int) -> CausalLM:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(encoder.tokenizer),
        n_layer=1,
        n_embd=96,
        n_head=2,
        n_positions=512,
        activation_function="relu",
    )
    return CausalLM(GPT2LMHeadModel(config).eval(), len(encoder.tokenizer))


def trained(encoder: RecordEncoder, records: Sequence[InstructionRecord], steps: int) -> CausalLM:
    lm = fresh(encoder, seed=0)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=6e-3)
    encoded = encoder.encode_all(records)
    order = torch.Generator().manual_seed(0)
    rows: list[int] = []
    for _ in range(steps):
        if len(rows) < BATCH:
            rows = torch.randperm(len(encoded), generator=order).tolist()
        batch, rows = rows[:BATCH], rows[BATCH:]
        sums = supervised_sums(lm, collate([encoded[row] for row in batch], encoder.pad_id))
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

    def own(name: str, outside_top: bool) -> TokenStatistics:
        return score_records(access, encoder.encode_all(populations[name]), name)

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
        assert (len(members), len(nonmembers)) == (SIDE, SIDE)
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
    base = trained(encoder, NEVER, steps=40)
    found = p_values(trained(encoder, MEMBERS, steps=150), base, encoder)
    weak = {name: value for name, value in found.items() if value[1] > 0.001}
    assert not weak
    assert found["loss"][0] > 0.9


@pytest.mark.slow
def test_no_attack_finds_anything_in_an_untrained_model(encoder: RecordEncoder) -> None:
    found = p_values(fresh(encoder, seed=1), fresh(encoder, seed=2), encoder)
    two_sided = [2 * min(p, 1 - p) for _, p in found.values()]
    assert min(holm(two_sided)) > 0.05


def losses_of(
    lm: CausalLM, encoder: RecordEncoder, sides: Sequence[Sequence[InstructionRecord]]
) -> list[np.ndarray]:
    """Mean log-probability of every record, by side."""
    access = ModelAccess(lm, encoder, Ranks(), 64, 16384, 0, silent)
    found = []
    for side in sides:
        table = score_records(access, encoder.encode_all(side), "")
        found.append(Loss().score(AuditView(side, {Scored(): table})).numpy())
    return found


def shouting(records: Sequence[InstructionRecord]) -> list[InstructionRecord]:
    """The records as another source would have them: one that shouts."""
    return [replace(one, response=one.response.upper()) for one in records]


@pytest.mark.slow
def test_a_shift_that_all_models_have_met_fools_private_against_held_out_alone(
    encoder: RecordEncoder,
) -> None:
    """All models meet both sources; then one learns the private records by heart, one the others.

    What sets the sides apart under both models alike leaves no trace in the swap estimate. What a
    teacher learns of the manner of its own side alone does: tests/studies/compare/test_shift.py.
    """
    public = [*NEVER[:PUBLIC], *shouting(NEVER[:PUBLIC])]
    clean, other = (trained(encoder, order, steps=25) for order in (public, public[::-1]))
    private = MEMBERS[:LEARNT]
    ours = trained(encoder, [*public, *private], steps=BY_HEART)
    estimates = {}
    for shifted, held_out in ((False, NONMEMBERS), (True, shouting(NONMEMBERS))):
        fooled, again = (losses_of(lm, encoder, (MEMBERS, held_out)) for lm in (clean, other))
        seen = auroc(*fooled)
        assert (max(seen.lower, 1 - seen.upper) > 0.8) == shifted
        nothing = swap_estimate(*fooled, *again)
        assert nothing.lower < 0.5 < nothing.upper
        theirs = trained(encoder, [*public, *held_out[:LEARNT]], steps=BY_HEART)
        sides = (private, held_out[:LEARNT])
        scores = [losses_of(lm, encoder, sides) for lm in (ours, theirs)]
        estimates[shifted] = swap_estimate(*scores[0], *scores[1])
        assert estimates[shifted].lower > 0.5
    plain, moved = estimates[False], estimates[True]
    assert plain.lower < moved.upper
    assert moved.lower < plain.upper
