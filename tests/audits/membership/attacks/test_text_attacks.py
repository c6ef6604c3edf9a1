"""Attacks on other texts: whole audits of tiny models against a float64 loop over plain passes."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.membership.attacks import (
    DCPDD,
    PAC,
    RMIA,
    Attack,
    ConRecall,
    Loss,
    Lowercase,
    Neighbour,
    Recall,
)
from audits.membership.collection import Collector
from audits.membership.measurements import Measurement, Scored
from audits.membership.plan import AuditPlan
from audits.membership.stored_audit import load_view, save_view
from audits.membership.texts import WordDropout, WordSwap
from audits.membership.view import AuditView
from audits.results import params_json
from audits.scoring.model_access import ModelAccess
from audits.scoring.scoring_pass import score_records
from audits.scoring.statistics_file import StatisticsFile
from common.errors import UserError
from common.keys import key
from common.ranks import Ranks
from datamodules.batches import EncodedRecord, RecordEncoder
from datamodules.records import InstructionRecord
from kdmodules.models.causal_lm import CausalLM
from tests.audits.membership.texts.conftest import TEMPLATE, awkward_records, shot_records
from tests.kdmodules.conftest import one_family

SEED = 5
WINDOW = 128
MEMBERS = awkward_records("m")
NONMEMBERS = awkward_records("n")
ATTACKS: list[Attack] = [
    Lowercase(),
    Neighbour(copies=3, share=0.3),
    Recall(),
    ConRecall(),
    PAC(copies=2),
]


class Calibrated(Loss):
    """An attack that reads another use of the pool."""

    @property
    def requires(self) -> frozenset[Measurement]:
        return frozenset({Scored(), Scored(records="calibration")})


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


def access_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, batch_size: int = 8
) -> ModelAccess:
    encoder = RecordEncoder(tokenizer, TEMPLATE, max_prompt_tokens=32, max_tokens=64)
    lm = CausalLM(model, len(tokenizer))
    return ModelAccess(lm, encoder, Ranks(), batch_size, 2048, SEED, silent)


def collected(
    access: ModelAccess,
    attacks: Sequence[Attack],
    members: Sequence[InstructionRecord] = MEMBERS,
) -> AuditView:
    """The members' view of an audit of members and non-members."""
    populations = {"private": members, "held_out": NONMEMBERS}

    def own_pass(name: str, outside_top: bool) -> StatisticsFile:
        return score_records(access, access.encoder.encode_all(populations[name]), name)

    def unknown(name: str) -> None:
        raise AssertionError(name)

    collector = Collector(
        access=access,
        load_reference=unknown,
        own_pass=own_pass,
        weights_hash=lambda lm: "",
        pool_records=lambda side, use: shot_records(side) if use == "shots" else [],
        never_records=list,
        met=lambda name, records: [False] * len(records),
    )
    with torch.no_grad():
        return collector.collect(AuditPlan.of(attacks), populations)["private"]


@dataclass(frozen=True)
class Naive:
    """Log-probabilities by the plain model in float64, one text at a time."""

    model: PreTrainedModel
    encoder: RecordEncoder

    def logp(self, encoded: EncodedRecord, before: Sequence[int] = ()) -> list[float]:
        ids = [*before, *encoded.prompt_ids, *encoded.response_ids]
        start = len(ids) - len(encoded.response_ids)
        with torch.no_grad():
            logits = self.model(input_ids=torch.tensor([ids])).logits[0]
        table = logits[:, : len(self.encoder.tokenizer)].log_softmax(-1)
        return [float(table[place - 1, ids[place]]) for place in range(start, len(ids))]

    def text(self, record: InstructionRecord, response: str) -> list[float]:
        return self.logp(self.encoder.encode(replace(record, response=response)))

    def prefix(self, side: str) -> list[int]:
        every = self.encoder.encode_all([*MEMBERS, *NONMEMBERS])
        room = WINDOW - max(len(one) for one in every)
        shots = [one for one in shot_records(side) if one.response]
        ids: list[int] = []
        for one in sorted(shots, key=lambda one: key(SEED, "shots", side, one.id)):
            encoded = self.encoder.encode(one)
            if len(ids) + len(encoded) <= room:
                ids += [*encoded.prompt_ids, *encoded.response_ids]
        return ids


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def polarised(logp: list[float]) -> float:
    ordered = sorted(logp)
    top = ordered[-max(1, math.ceil(0.05 * len(logp))) :]
    return mean(top) - mean(ordered[: max(1, math.ceil(0.3 * len(logp)))])


def expected(attack: Attack, record: InstructionRecord, naive: Naive) -> float:
    own = naive.text(record, record.response)
    floored = max(-mean(own), 0.01)
    encoded = naive.encoder.encode(record)
    if isinstance(attack, Lowercase):
        return -mean(naive.text(record, record.response.lower())) / floored
    if isinstance(attack, Neighbour):
        texts = [WordDropout(n, 0.3).text(record, SEED) for n in range(3)]
        return mean(own) - mean([mean(naive.text(record, text)) for text in texts])
    if isinstance(attack, Recall):
        return -mean(naive.logp(encoded, naive.prefix("held_out"))) / floored
    if isinstance(attack, ConRecall):
        outside = mean(naive.logp(encoded, naive.prefix("held_out")))
        inside = mean(naive.logp(encoded, naive.prefix("private")))
        return (outside - 0.5 * inside) / -floored
    assert isinstance(attack, PAC)
    texts = [WordSwap(n, 0.3).text(record, SEED) for n in range(2)]
    return mean([polarised(naive.text(record, text)) for text in texts]) - polarised(own)


def test_every_attack_equals_the_float64_loop(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    access = access_of(family_model, tokenizer)
    view = collected(access, ATTACKS)
    naive = Naive(copy.deepcopy(family_model).double(), access.encoder)
    for attack in ATTACKS:
        kept = view.where(attack.defined(view))
        found = attack.score(kept)
        wanted = [expected(attack, record, naive) for record in kept.records]
        torch.testing.assert_close(
            found, torch.tensor(wanted, dtype=torch.float64), atol=1e-5, rtol=1e-5, msg=attack.name
        )


@one_family
def test_batches_and_order_change_no_score(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    view = collected(access_of(family_model, tokenizer), ATTACKS)
    other = collected(access_of(family_model, tokenizer, batch_size=1), ATTACKS, MEMBERS[::-1])
    for attack in ATTACKS:
        found = attack.score(other.where(attack.defined(other))).flip(0)
        torch.testing.assert_close(
            found, attack.score(view.where(attack.defined(view))), atol=1e-5, rtol=1e-5
        )


@one_family
def test_one_word_has_no_copies(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    view = collected(access_of(family_model, tokenizer), ATTACKS)
    assert view.skipped == 0
    several = [len(record.response.split()) > 1 for record in MEMBERS]
    assert not all(several)
    for attack in ATTACKS:
        partial = isinstance(attack, (Neighbour, PAC))
        assert attack.defined(view).tolist() == (several if partial else [True] * len(several))


@one_family
def test_the_shots_in_use_are_reported(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    access = access_of(family_model, tokenizer)
    view = collected(access, ATTACKS)
    naive = Naive(family_model, access.encoder)
    outside, inside = naive.prefix("held_out"), naive.prefix("private")
    eos = access.encoder.eos_id
    assert 0 < outside.count(eos) < 10
    assert Recall().diagnostics(view.scorable_only()) == {
        "shots": outside.count(eos),
        "prefix_tokens": len(outside),
    }
    assert ConRecall().diagnostics(view) == {
        "nonmember_shots": outside.count(eos),
        "nonmember_prefix_tokens": len(outside),
        "member_shots": inside.count(eos),
        "member_prefix_tokens": len(inside),
    }


@pytest.mark.parametrize("a", [0.01, 0.2, 100.0])
def test_dc_pdd_equals_the_float64_loop(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, a: float
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"the cat {i} sat on the mat" for i in range(150)))
    attack = DCPDD(a=a, corpus=str(corpus), max_blocks=None)
    access = access_of(family_model, tokenizer)
    view = collected(access, [attack])
    naive = Naive(copy.deepcopy(family_model).double(), access.encoder)
    (request,) = [one for one in attack.requires if not isinstance(one, Scored)]
    frequency = request.measure(tokenizer).exp().tolist()
    wanted, clipped = [], []
    for record in view.records:
        parts: dict[int, float] = {}
        encoded = access.encoder.encode(record)
        logp = naive.text(record, record.response)
        for token, value in zip(encoded.response_ids, logp, strict=True):
            parts.setdefault(token, math.exp(value) * math.log(1 / frequency[token]))
        wanted.append(mean([min(part, a) for part in parts.values()]))
        clipped += [part >= a for part in parts.values()]
    torch.testing.assert_close(
        attack.score(view), torch.tensor(wanted, dtype=torch.float64), atol=1e-5, rtol=1e-5
    )
    assert attack.diagnostics(view)["clipped_share"] == pytest.approx(sum(clipped) / len(clipped))
    if a == 0.2:
        assert 0 <= sum(clipped) < len(clipped)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Neighbour(copies=0),
        lambda: Neighbour(share=0.0),
        lambda: Neighbour(span_words=0),
        lambda: PAC(share=1.5),
        lambda: PAC(copies=-1),
        lambda: Recall(shots=0),
        lambda: ConRecall(shots=0),
        lambda: ConRecall(gamma=math.nan),
        lambda: DCPDD(a=0.0),
        lambda: DCPDD(a=math.nan),
        lambda: DCPDD(a=math.inf),
    ],
)
def test_options_out_of_range_are_refused(build: Callable[[], Attack]) -> None:
    with pytest.raises(UserError, match="attack "):
        build()


def test_names_params_and_requirements() -> None:
    described = {attack.name: attack.params for attack in (*ATTACKS, DCPDD())}
    assert described == {
        "lowercase": {},
        "neighbour": {"copies": 3, "share": 0.3},
        "recall": {"shots": 10},
        "con_recall": {"gamma": 0.5, "shots": 10},
        "pac": {"copies": 2, "share": 0.3},
        "dc_pdd": {"a": 0.01, "corpus": "builtin"},
    }
    several = DCPDD(a=0.1, corpus=["one.txt", "two.txt"])
    assert params_json(several.params) == '{"a": 0.1, "corpus": "one.txt,two.txt"}'
    assert Neighbour(masked_lm="bert").params == {
        "copies": 25,
        "share": 0.15,
        "masked_lm": "bert",
        "span_words": 2,
    }
    assert AuditPlan.of([Neighbour()]).passes == 26
    # Both kinds of ReCaLL share the pass after non-members, and all share the own pass.
    assert AuditPlan.of([Recall(), ConRecall(), DCPDD(), Lowercase()]).passes == 4
    assert AuditPlan.of([Recall(), Lowercase()]).pool_uses == {"shots"}
    assert AuditPlan.of([RMIA(["shadow0"]), Neighbour()]).pool_uses == frozenset()
    assert AuditPlan.of([Calibrated()]).pool_uses == {"calibration"}
    assert "knows some members" in ConRecall().threat_model


@one_family
def test_a_stored_audit_needs_no_model(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    attacks = [*ATTACKS, DCPDD(max_blocks=4)]
    view = collected(access_of(family_model, tokenizer), attacks)
    save_view(view, [record.id for record in view.records], tmp_path / "private")
    stored, _ = load_view(tmp_path / "private", AuditPlan.of(attacks))
    for attack in attacks:
        defined = attack.defined(stored)
        assert torch.equal(attack.score(stored.where(defined)), attack.score(view.where(defined)))
        assert attack.diagnostics(stored) == attack.diagnostics(view)


@one_family
def test_a_stored_audit_is_of_one_model_and_one_way_to_tokens(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """A second audit into the same folder, by other attacks, with records cut earlier."""
    access, folder = access_of(family_model, tokenizer), tmp_path / "private"
    plan, names = AuditPlan.of([Loss(), Lowercase()]), []
    shorter = RecordEncoder(
        tokenizer, TEMPLATE, access.encoder.max_prompt_tokens, access.encoder.max_tokens - 1
    )
    for changed, attack in (
        (access, Lowercase()),
        (replace(access, encoder=shorter), Loss()),
    ):
        view = collected(changed, [attack])
        names = [record.id for record in view.records]
        save_view(view, names, folder)
    with pytest.raises(UserError, match="of other tokens or models side by side"):
        load_view(folder, plan)
    save_view(collected(access, [Loss(), Lowercase()]), names, folder)
    load_view(folder, plan)
