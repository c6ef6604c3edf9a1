"""The record after other records of the pool, as solved examples before its prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from audits.membership.texts.base import TextMaterial, TextVariant
from audits.scoring.encoded_file import Records
from common.errors import UserError
from common.keys import key
from datamodules.batches import EncodedRecord


@dataclass(frozen=True)
class Shots(TextVariant):
    """The record's own tokens after a prefix of whole records that no audit judges.

    One prefix serves all records of an audit: in a seeded order, every shot that fits into what the
    model's window leaves beside the longest audited record, until there are enough. A shot is
    prompt, response and eos, as the model was trained on them; one that the encoder cuts is no
    shot. A family's beginning token stands once, before everything.

    Attributes:
        side: ``held_out`` or ``private``: where the shots come from; behind a counterfactual model
            the other way round, so that the former are never what its teacher was trained on.
        count: Most shots.
    """

    pool_uses: ClassVar[frozenset[str]] = frozenset({"shots"})

    side: str
    count: int

    @property
    def label(self) -> str:
        """For instance "after 10 held_out shots"."""
        return f"after {self.count} {self.side} shots"

    def encode(self, records: Records, material: TextMaterial) -> list[EncodedRecord]:
        """Returns the records' tokens, their prompts lengthened by the prefix.

        Raises:
            UserError: If the pool has no record for shots, or none that fits.
        """
        beginning = material.encoder.beginning_ids
        shots = _fitting_shots(self, material)
        prefix = [*beginning, *(token for shot in shots for token in shot)]
        return [
            replace(one, prompt_ids=(*prefix, *one.prompt_ids[len(beginning) :]))
            for one in material.encoder.encode_all(records)
        ]

    def facts(self, material: TextMaterial) -> Mapping[str, float]:
        """Returns the number of shots and of their tokens."""
        shots = _fitting_shots(self, material)
        return {"shots": len(shots), "prefix_tokens": sum(map(len, shots))}


@lru_cache(maxsize=2)
def _fitting_shots(variant: Shots, material: TextMaterial) -> tuple[tuple[int, ...], ...]:
    """Token ids of the shots, without a beginning token, found once for all shards of an audit."""
    room = free = material.window - material.longest()
    chosen: list[tuple[int, ...]] = []
    for shot in _candidates(variant.side, material):
        if len(chosen) < variant.count and len(shot) <= free:
            chosen.append(shot)
            free -= len(shot)
    if not chosen:
        raise UserError(
            f"no record of the use 'shots' ({variant.side}) fits whole into the {room} tokens that "
            f"the model's window of {material.window} leaves beside the longest audited record: "
            "give data.splits.roles.shots a share above 0, lower data.max_tokens, or leave the "
            "attack out"
        )
    return tuple(chosen)


def _candidates(side: str, material: TextMaterial) -> list[tuple[int, ...]]:
    records = [record for record in material.shots(side) if record.response]
    records.sort(key=lambda record: key(material.seed, "shots", side, record.id))
    beginning = len(material.encoder.beginning_ids)
    return [
        one.prompt_ids[beginning:] + one.response_ids
        for one in material.encoder.encode_all(records)
        if not (one.prompt_cut or one.response_cut)
    ]
