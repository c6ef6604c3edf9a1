"""The bound on sampled text against enumeration: two coins, three tokens, models that are run."""

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import special, stats
from transformers import GPT2Config, GPT2LMHeadModel

from audits.bounds.ceilings import accuracy_ceiling
from audits.context import AuditContext, SharedWork
from audits.scoring.model_access import ModelAccess
from audits.text_bound import (
    TextOptions,
    audit_text_bound,
    check_text_bound,
    throws_of,
    world_nats,
)
from common.errors import UserError
from common.ranks import Ranks
from datamodules.canaries import CanaryPlan
from datamodules.encoded import EncodedRecord
from datamodules.instruction import InstructionDataModule
from datamodules.split_options import SplitOptions
from kdmodules.models.causal_lm import CausalLM

COINS = list(itertools.product((0, 1), repeat=2))
END, LONGEST, ANSWERS = 0, 2, 200
PROMPT = (1, 2, 2)
TEXTS = [(END,), *itertools.product((1, 2), range(3))]


def network(vocabulary: int, move: float = 0.0, seed: int = 0) -> CausalLM:
    """A random network, the head's rows moved by `move` times random ones of the seed."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary,
        **{"n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 512},
        **{"initializer_range": 0.5, "bos_token_id": None, "eos_token_id": None},
    )
    model = GPT2LMHeadModel(config).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.lm_head.weight += move * torch.randn(vocabulary, 8, generator=draw)
    return CausalLM(model, vocabulary)


def taught(coins: tuple[int, int]) -> CausalLM:
    """A teacher of three tokens that both coins have moved."""
    lm, other = network(3, 0.7 * coins[0], seed=1), network(3, 0.4 * coins[1], seed=2)
    with torch.no_grad():
        lm.model.lm_head.weight += other.model.lm_head.weight - network(3).model.lm_head.weight
    return lm


def access(lm: CausalLM, encoder: object = None) -> ModelAccess:
    three = SimpleNamespace(pad_id=END, eos_id=END, end_ids=[END])
    bar = nullcontext(lambda: None)
    return ModelAccess(lm, encoder or three, Ranks(), 100, 10_000, 0, lambda *_: bar)


def log_rows(lm: CausalLM) -> dict[tuple[int, ...], np.ndarray]:
    """Log-probabilities after every text that has not ended, by the network's own forward."""
    rows = {}
    for before in ((), (1,), (2,)):
        with torch.no_grad():
            logits = lm.model(torch.tensor([[*PROMPT, *before]])).logits[0, -1]
        rows[before] = special.log_softmax(logits.double().numpy())
    return rows


def along(text: Sequence[int], of: Callable[[tuple[int, ...], int], float]) -> float:
    """The sum of a figure over the tokens of a text."""
    return sum(of(tuple(text[:place]), token) for place, token in enumerate(text))


def chances(lm: CausalLM) -> np.ndarray:
    rows = log_rows(lm)
    found = np.exp([along(text, lambda before, token: rows[before][token]) for text in TEXTS])
    assert found.sum() == pytest.approx(1.0)
    return found


def test_information_lies_below_the_estimate_of_its_bound() -> None:
    teachers = [taught(coins) for coins in COINS]
    # Worlds whose coins are their own: any of them may have fallen as the teacher's.
    others = [taught(coins) for coins in (COINS[0], COINS[2], COINS[2], COINS[3], COINS[1])]
    prompts = [EncodedRecord(f"p{row}", "", PROMPT, (1,)) for row in range(ANSWERS)]
    options, throws = TextOptions(8, ANSWERS, LONGEST), [0] * 4 + [1, 2, 3, 4, 5]
    with torch.no_grad():
        given = access(teachers[0]), [*teachers, *others], throws, options, prompts
        nats, tokens = (of[:4] / ANSWERS for of in world_nats(*given))
    assert ((tokens >= 1) & (tokens <= LONGEST)).all()
    mixed = [log_rows(other) for other in others]
    for teacher, found in zip(teachers, nats, strict=True):
        own = log_rows(teacher)

        def divergence(before: tuple[int, ...], token: int, own: dict = own) -> float:
            q = np.mean([np.exp(rows[before]) for rows in mixed], axis=0)
            return float(special.rel_entr(np.exp(own[before]), q).sum())

        each, chance = np.array([along(text, divergence) for text in TEXTS]), chances(teacher)
        mean = float(chance @ each)
        spread = math.sqrt(float(chance @ (each - mean) ** 2) / ANSWERS)
        assert spread > 1e-3
        assert abs(found - mean) < 4 * spread
    joint = np.array([chances(teacher) / len(COINS) for teacher in teachers])
    information = stats.entropy(joint.ravel(), np.outer(joint.sum(1), joint.sum(0)).ravel())
    assert 0.01 < information < nats.mean() < 5 * information
    guesses = [
        np.maximum(*(joint[[c[i] == side for c in COINS]].sum(0) for side in (0, 1))).sum()
        for i in range(2)
    ]
    assert 0.55 < np.mean(guesses) <= accuracy_ceiling(float(nats.mean()) / 2)


def test_the_opposite_world_is_not_among_the_others() -> None:
    """Of two throws, the second's worlds are the first's own model; its opposite is another."""
    alike, opposite = network(3), network(3, 2.0)
    prompts = [EncodedRecord(f"p{row}", "", PROMPT, (1,)) for row in range(8)]
    models = [alike, opposite, alike, alike]
    with torch.no_grad():
        nats, _ = world_nats(access(alike), models, [0, 0, 1, 1], TextOptions(3, 8, 2), prompts)
    assert nats[0] == pytest.approx(0.0, abs=1e-4)
    assert min(nats[1:]) > 0.1


@pytest.fixture(scope="module")
def data() -> InstructionDataModule:
    found = InstructionDataModule(
        n_records=160,
        vocabulary=300,
        splits=SplitOptions(seed=2, min_records=2),
        canaries=CanaryPlan(coin=20, exposure_per_level=0),
        template="alpaca",
    )
    found.setup("fit")
    return found


def context(data: InstructionDataModule, models: Sequence[CausalLM]) -> AuditContext:
    """The first model, and the others as those of shadow worlds."""
    by_name = {f"shadow{number}": lm for number, lm in enumerate(models[1:])}
    return AuditContext(
        access(models[0], data.encoder),
        data,
        lambda name: SimpleNamespace(lm=by_name[name]),
        lambda name: data.tokenizer,
        lambda side, use: [],
        SharedWork(),
    )


def audited(
    data: InstructionDataModule, models: Sequence[CausalLM]
) -> tuple[dict[str, float | None], AuditContext, TextOptions]:
    options = TextOptions(len(models) - 1, prompts=2, max_new_tokens=4)
    given, prompts = context(data, models), data.tokens("public", data.split("public"))
    with torch.no_grad():
        rows = audit_text_bound(given, options, prompts).results
    assert {row.params["certificate"] for row in rows} == {"average"}
    assert {row.params["throws"] for row in rows} == {1 + (len(models) - 1) // 2}
    units = len(set(data.clusters([*data.population("private"), *data.population("held_out")])))
    assert {row.n_members + row.n_nonmembers for row in rows} == {units}
    found = {row.metric: row.value for row in rows}
    assert len(prompts) <= found["tokens_read"] <= 4 * len(prompts)
    return found, given, options


def test_teachers_that_coins_move_are_vacuous_and_equal_ones_tell_nothing(
    data: InstructionDataModule,
) -> None:
    size = len(data.tokenizer)
    leaking, *_ = audited(data, [network(size, 3.0, seed) for seed in range(9)])
    assert leaking["accuracy_upper"] == 1.0
    assert leaking["query_budget"] < leaking["tokens_read"]
    clean, *_ = audited(data, [network(size)] * 9)
    assert clean["nats_per_token"] == pytest.approx(0.0, abs=1e-5)
    assert clean["accuracy_upper"] == pytest.approx(0.5, abs=0.02)


def test_four_throws_have_no_accuracy(data: InstructionDataModule) -> None:
    """Six shadow worlds are three throws, and the audited model has the fourth."""
    found, *_ = audited(data, [network(len(data.tokenizer), 0.1, seed) for seed in range(7)])
    assert found["accuracy_upper"] is None
    assert found["nats_per_token"] > 1e-5


def test_throws_pair_the_worlds_by_their_coins(data: InstructionDataModule) -> None:
    options = TextOptions(worlds=6)
    audited, *shadows = throws_of(context(data, [network(300)] * 7), options)
    assert audited not in shadows
    assert shadows[::2] == shadows[1::2]
    assert len(set(shadows)) == 3
    canaries = [*data.population("canary_in"), *data.population("canary_out")]
    for one, other in itertools.pairwise(options.references):
        same = np.equal(data.met(one, canaries), data.met(other, canaries)).mean()
        assert same == 0.0 if int(one[-1]) % 2 == 0 else 0.1 < same < 0.9


def test_what_has_no_such_bound_is_refused(data: InstructionDataModule) -> None:
    options, prompts = TextOptions(worlds=2), data.tokens("public", data.split("public"))
    given = context(data, [network(len(data.tokenizer))] * 3)
    check_text_bound(given, options, prompts)
    with pytest.raises(UserError, match="no public record"):
        check_text_bound(given, options, [])
    with pytest.raises(UserError, match="exceed the model's window of 512"):
        check_text_bound(given, TextOptions(2, 2, 500), prompts)
    shadow = InstructionDataModule(
        n_records=160,
        vocabulary=300,
        splits=SplitOptions(seed=2, min_records=2, shadow=1),
        template="alpaca",
    )
    shadow.setup("fit")
    with pytest.raises(UserError, match="'shadow0' has the coins of the audited model"):
        check_text_bound(context(shadow, [given.model.lm] * 3), options, prompts)
    with pytest.raises(UserError, match="worlds is 0"):
        TextOptions(worlds=0)
