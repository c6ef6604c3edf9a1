"""The goldfish loss: which targets are left out, against Python integers, and out of what."""

import math

import pytest
import torch
from transformers import PreTrainedModel

from common.errors import UserError
from common.keys import key
from datamodules.batches import EncodedRecord, InstructionBatch, collate
from kdmodules.goldfish import Goldfish
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.teacher import SupervisedModule
from kdmodules.token_hashes import prefix_hashes
from tests.kdmodules.conftest import one_family

WORD = 2**64


def splitmix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) % WORD
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % WORD
    value = (value ^ value >> 27) * 0x94D049BB133111EB % WORD
    return value ^ value >> 31


def hashed(ids: list[int], start: int) -> int:
    for token in ids:
        start = splitmix(start ^ token % WORD)
    return start


def dropped(record: EncodedRecord, fish: Goldfish) -> list[int]:
    """Places in the response whose target is left out, one token at a time."""
    ids = [-1] * fish.context + list(record.prompt_ids + record.response_ids)
    places = range(len(record.prompt_ids), len(record))
    draws = {
        place: hashed(ids[place : place + fish.context], key(fish.key, "goldfish"))
        for place in places
    }
    return [place - places.start for place, draw in draws.items() if draw / WORD < 1 / fish.k]


def records(count: int, prompt: int, response: int, *, seed: int = 0) -> list[EncodedRecord]:
    draw = torch.Generator().manual_seed(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 300, (n,), generator=draw).tolist())

    return [
        EncodedRecord(f"r{i}", "task", ids(prompt + i), ids(response + 3 * i)) for i in range(count)
    ]


def left(batch: InstructionBatch, fish: Goldfish) -> list[list[int]]:
    """Places in each response that are still scored."""
    before, after = batch.response_mask, fish.without_dropped(batch).response_mask
    assert not (after & ~before).any()
    return [after[row][before[row]].nonzero().flatten().tolist() for row in range(len(before))]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("fish", [Goldfish(), Goldfish(3, 20, key=5)])
def test_what_is_left_out_is_one_hash_of_the_tokens_before(side: str, fish: Goldfish) -> None:
    listed = records(6, prompt=2, response=40)
    kept = left(collate(listed, pad_id=0, padding_side=side), fish)
    for record, places in zip(listed, kept, strict=True):
        assert set(range(len(record.response_ids))) - set(places) == set(dropped(record, fish))


@pytest.mark.parametrize("k", [2, 4, 16])
def test_one_of_k_is_left_out_whatever_the_ids(k: int) -> None:
    """A product of ids, as published, is 0 in every window that holds id 0."""
    listed = records(1, prompt=20, response=20_000)
    ids = tuple(0 if place % 5 == 0 else one for place, one in enumerate(listed[0].response_ids))
    zeros = EncodedRecord("zeros", "task", listed[0].prompt_ids, ids)
    for record in (listed[0], zeros):
        (kept,) = left(collate([record], 0), Goldfish(k))
        share = 1 - len(kept) / len(ids)
        assert abs(share - 1 / k) < 4 * math.sqrt((1 / k) * (1 - 1 / k) / len(ids))


def test_copies_of_a_passage_leave_the_same_tokens_out_and_another_key_others() -> None:
    (first, second, passage) = records(3, prompt=30, response=60, seed=1)
    text = passage.response_ids
    copies = [
        EncodedRecord(one.record_id, "task", one.prompt_ids, one.response_ids[: 10 * n] + text)
        for n, one in enumerate((first, second), start=1)
    ]
    batch = collate(copies, 0)

    def kept(fish: Goldfish) -> list[set[int]]:
        return [
            {place - 10 * n for place in places if place >= 10 * n + fish.context}
            for n, places in enumerate(left(batch, fish), start=1)
        ]

    one, other = kept(Goldfish())
    assert one == other != kept(Goldfish(key=1))[0]
    assert 0 < len(one) < len(text) - 13


@one_family
def test_the_loss_is_that_of_the_targets_that_are_left(family_model: PreTrainedModel) -> None:
    fish = Goldfish(2, 5)
    module = SupervisedModule("private", Network("gpt2"), OptimizerSettings(lr=1e-3), goldfish=fish)
    module.lm = CausalLM(family_model, 300)
    batch = collate(records(3, prompt=4, response=20), 0)
    sums = module.loss_sums(batch)
    logits = family_model(batch.input_ids, attention_mask=batch.attention_mask).logits.double()
    logp = logits.log_softmax(-1)[:, :-1].gather(2, batch.input_ids[:, 1:, None]).squeeze(2)
    kept = fish.without_dropped(batch).response_mask[:, 1:]
    assert int(sums["tokens"]) == int(kept.sum()) < int(batch.response_mask.sum())
    torch.testing.assert_close(sums["loss"].double(), -logp[kept].sum(), rtol=1e-5, atol=1e-4)


def test_a_prefix_hash_is_of_all_tokens_before_and_of_no_padding() -> None:
    ids = torch.tensor([[9, 9, 4, 7, 1], [4, 7, 1, 9, 9]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    found = prefix_hashes(ids, mask, 11)
    expected = [hashed(ids, 11) for ids in ([], [4], [4, 7])]
    for row, start in ((0, 2), (1, 0)):
        assert [one % WORD for one in found[row, start : start + 3].tolist()] == expected


@pytest.mark.parametrize(("options", "named"), [({"k": 1}, "k"), ({"context": 0}, "context")])
def test_numbers_without_sense_are_refused(options: dict[str, int], named: str) -> None:
    with pytest.raises(UserError, match=rf"model\.goldfish\.{named} is"):
        Goldfish(**options)
