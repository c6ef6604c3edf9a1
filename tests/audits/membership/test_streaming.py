"""Shards and ranks change no bit of a score, and no more than a shard of a pass is in memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from transformers import GPT2Config, GPT2LMHeadModel

from audits.membership import attacks as package
from audits.membership.attacks import (
    DCPDD,
    RMIA,
    Attack,
    ConRecall,
    LiRA,
    MoPe,
    Neighbour,
    Recall,
    SaMIA,
)
from audits.membership.collection import Collector
from audits.membership.plan import AuditPlan
from audits.membership.view import AuditView
from audits.scoring import scoring_pass
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from audits.scoring.scoring_pass import score_records
from audits.scoring.statistics_file import StatisticsFile
from common.ranks import Ranks
from datamodules.batches import RecordEncoder
from datamodules.records import InstructionRecord
from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from kdmodules.models.causal_lm import CausalLM
from tests.processes import start_ranks

REFERENCES = ["base", "shadow0", "shadow1"]
RECORDS = generate_records(90, seed=5)
AUDITED, SHOTS, NEVER = RECORDS[:23], RECORDS[23:43], RECORDS[43:]
# Enough copies for torch's sum over rows to depend on the number of columns.
CHOSEN: tuple[Attack, ...] = (
    *(RMIA(REFERENCES), LiRA(REFERENCES), LiRA(REFERENCES, "online"), DCPDD(max_blocks=4)),
    *(Neighbour(copies=20), Recall(shots=2), ConRecall(shots=2)),
)
SAMPLED = (MoPe(draws=3), SaMIA(samples=2))
KNOWN = {"Attack", "describe", *(type(one).__name__ for one in (*CHOSEN, *SAMPLED))}
OTHERS = [getattr(package, name)() for name in sorted(set(package.__all__) - KNOWN)]
ATTACKS: tuple[Attack, ...] = (*CHOSEN, *SAMPLED, *OTHERS)


@contextmanager
def silent(total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@cache
def encoder() -> RecordEncoder:
    tokenizer = train_tokenizer([record.response for record in RECORDS], 400)
    return RecordEncoder(tokenizer, max_prompt_tokens=160, max_tokens=256)


def model(seed: int) -> CausalLM:
    torch.manual_seed(seed)
    size = len(encoder().tokenizer)
    config = GPT2Config(vocab_size=size, n_layer=1, n_embd=16, n_head=2, n_positions=1024)
    return CausalLM(GPT2LMHeadModel(config).eval(), size)


def met(name: str, records: Sequence[InstructionRecord]) -> list[bool]:
    """One record in three, others for each reference."""
    return [(place + REFERENCES.index(name)) % 3 == 0 for place in range(len(records))]


def collected(attacks: Sequence[Attack], ranks: Ranks, folder: Path) -> AuditView:
    access = ModelAccess(model(0), encoder(), ranks, 8, 2048, 0, lambda title, total: silent(total))
    collector = Collector(
        access=access,
        load_reference=lambda name: ReferenceModel(model(1 + REFERENCES.index(name)), encoder()),
        own_pass=lambda name, outside_top: score_records(
            access, encoder().encode_all(AUDITED), name, outside_top=outside_top
        ),
        weights_hash=lambda lm: "",
        pool_records=lambda side, use: SHOTS[:10] if side == "held_out" else SHOTS[10:],
        never_records=lambda: list(NEVER),
        met=met,
        folder=folder,
    )
    with torch.no_grad():
        return collector.collect(AuditPlan.of(attacks), {"private": AUDITED})["private"]


def scores(attack: Attack, view: AuditView) -> torch.Tensor:
    return attack.score(view.where(attack.defined(view)))


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> AuditView:
    folder = tmp_path_factory.mktemp("private")
    found = collected(ATTACKS, Ranks(), folder)
    assert list(folder.iterdir()) == []
    return found


@pytest.mark.parametrize("shard_records", [1, 7])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.name} {attack.params}")
def test_shards_change_no_bit_of_a_score(
    view: AuditView, attack: Attack, shard_records: int
) -> None:
    whole = replace(view, passes={request: table.read() for request, table in view.passes.items()})
    cut = replace(view, shard_records=shard_records)
    assert [len(one.records) for one in cut.shards()][:-1] == [shard_records] * (
        -(-len(AUDITED) // shard_records) - 1
    )
    assert torch.equal(scores(attack, cut), scores(attack, view))
    assert torch.equal(scores(attack, cut), scores(attack, whole))
    assert str(attack.diagnostics(cut)) == str(attack.diagnostics(whole))


def test_no_attack_has_more_than_a_shard_in_memory(
    view: AuditView, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = StatisticsFile.read

    def counted(self: StatisticsFile):
        read.append(len(self))
        return original(self)

    monkeypatch.setattr(StatisticsFile, "read", counted)
    cut = replace(view, shard_records=4)
    for attack in ATTACKS:
        scores(attack, cut)
        attack.diagnostics(cut)
    assert max(read) == 4


LIKELIHOOD = (*CHOSEN[:3], package.Loss(), package.MinKPlusPlus(), package.Reference(), Recall(2))


def collect_in_one_process(process: int, folder: str) -> None:
    """The first two processes are the ranks of a group, the third one is alone."""
    torch.set_num_threads(1)
    scoring_pass._GATHERED_BATCHES = 2
    ranks = Ranks(process, 2) if process < 2 else Ranks()
    if process < 2:
        where = f"file://{folder}/store"
        dist.init_process_group("gloo", init_method=where, rank=process, world_size=2)
    found = collected(LIKELIHOOD, ranks, Path(folder))
    torch.save([scores(attack, found) for attack in LIKELIHOOD], f"{folder}/{process}.pt")
    if process < 2:
        dist.barrier()
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_give_the_scores_of_one(tmp_path: Path) -> None:
    start_ranks(collect_in_one_process, (str(tmp_path),), ranks=3)
    first, second, alone = (torch.load(tmp_path / f"{process}.pt") for process in range(3))
    for ours, theirs, expected in zip(first, second, alone, strict=True):
        assert torch.equal(ours, expected)
        assert torch.equal(theirs, expected)
