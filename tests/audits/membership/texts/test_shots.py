"""The prefix of shots: which records, in which order, and how many fit."""

from dataclasses import replace

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from audits.membership.texts import Original, Shots
from common.errors import UserError
from common.keys import key
from datamodules.tokenizer import train_tokenizer
from tests.audits.membership.texts.conftest import MaterialOf, awkward_records, shot_records


def naive_prefix(material_of: MaterialOf, side: str, count: int, room: int) -> list[int]:
    """Shots one at a time, in the order of their keys, while there is room."""
    encoder = material_of().encoder
    order = sorted(
        (one for one in shot_records(side) if one.response),
        key=lambda one: key(0, "shots", side, one.id),
    )
    prefix: list[int] = []
    taken = 0
    for one in order:
        encoded = encoder.encode(one)
        ids = [*encoded.prompt_ids, *encoded.response_ids]
        if taken < count and len(prefix) + len(ids) <= room:
            prefix += ids
            taken += 1
    return prefix


@pytest.mark.parametrize("side", ["held_out", "private"])
@pytest.mark.parametrize(("count", "window"), [(10, 128), (2, 200), (10, 1000), (1, 100)])
def test_one_prefix_stands_before_every_prompt(
    material_of: MaterialOf, side: str, count: int, window: int
) -> None:
    material, records = material_of(window=window), awkward_records()
    prefix = naive_prefix(material_of, side, count, window - 64)
    found = Shots(side, count).encode(records, material)
    for one, own in zip(found, Original().encode(records, material), strict=True):
        assert one.prompt_ids == (*prefix, *own.prompt_ids)
        assert one.response_ids == own.response_ids
        assert len(one) <= window
    facts = Shots(side, count).facts(material)
    eos = material.encoder.eos_id
    assert facts == {"shots": prefix.count(eos), "prefix_tokens": len(prefix)}
    assert facts["shots"] <= count


def test_as_many_shots_as_asked_for_where_there_is_room(material_of: MaterialOf) -> None:
    assert Shots("held_out", 10).facts(material_of(window=4000))["shots"] == 10
    assert Shots("held_out", 20).facts(material_of(window=4000))["shots"] == 11


def test_a_shot_that_the_encoder_cuts_is_no_shot(material_of: MaterialOf) -> None:
    material = replace(material_of(), shots=lambda side: awkward_records())
    cut = [one for one in material.encoder.encode_all(awkward_records()) if one.response_cut]
    assert len(cut) == 1
    wide = replace(material, window=4000)
    assert Shots("held_out", 10).facts(wide)["shots"] == len(awkward_records()) - 1


def test_the_seed_chooses_the_shots(material_of: MaterialOf) -> None:
    first, second = (
        Shots("held_out", 2).encode(awkward_records()[:1], material_of(seed=seed))[0].prompt_ids
        for seed in (0, 1)
    )
    assert first != second


def test_the_beginning_token_stands_once(material_of: MaterialOf) -> None:
    own = train_tokenizer([" ".join(f"the cat {i} sat on the mat" for i in range(200))], 300)
    own.add_special_tokens({"bos_token": "<s>"})
    beginning = own.bos_token_id
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", beginning)]
    )
    material = material_of(
        own_tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=own.backend_tokenizer, eos_token="<|endoftext|>", bos_token="<s>"
        )
    )
    assert material.encoder.beginning_ids == (beginning,)
    records = awkward_records()
    for one, alone in zip(
        Shots("held_out", 3).encode(records, material),
        Original().encode(records, material),
        strict=True,
    ):
        assert one.prompt_ids[0] == beginning
        assert one.prompt_ids.count(beginning) == 1
        assert one.prompt_ids[-len(alone.prompt_ids) + 1 :] == alone.prompt_ids[1:]
    facts = Shots("held_out", 3).facts(material)
    assert facts["prefix_tokens"] == len(one.prompt_ids) - len(alone.prompt_ids)


@pytest.mark.parametrize(("window", "longest"), [(70, 64), (64, 64)])
def test_a_window_without_room_is_refused(
    material_of: MaterialOf, window: int, longest: int
) -> None:
    with pytest.raises(
        UserError, match=f"into the {window - longest} tokens .* window of {window}"
    ):
        Shots("held_out", 10).encode(awkward_records(), material_of(window=window, longest=longest))
