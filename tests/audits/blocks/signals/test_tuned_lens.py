"""The tuned lens: fitted on development text alone, the model's own loss at the last block."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel

from audits.blocks.audit import _development as development_of
from audits.blocks.profile import MeasuredSide
from audits.blocks.recording import record_signals
from audits.blocks.signals import BlockAccess, LogitLens, TunedLens
from audits.scoring.model_access import ModelAccess
from common.errors import UserError
from common.ranks import Item, Ranks
from datamodules.batches import EncodedRecord
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.network import Network, build_network
from kdmodules.models.sharding import shard_language_model
from tests.audits.blocks.conftest import (
    access_of,
    batch_of,
    no_reference,
    plain_log_likelihoods,
    tiny,
    unchanged,
)
from tests.audits.blocks.test_translators import Records, Tokenizer, random_records
from tests.audits.membership.signals.test_weights import mesh
from tests.kdmodules.conftest import TINY

__all__ = ["mesh"]

DEVELOPMENT = random_records(10, seed=7, first=100)


def with_development(access: ModelAccess, records: Records = DEVELOPMENT) -> BlockAccess:
    return BlockAccess(access, no_reference, lambda: access.encoder.encode_all(records))


@torch.no_grad()
def read(access: ModelAccess, lens: LogitLens, records: Records) -> Tensor:
    (found,) = record_signals(access, access.encoder.encode_all(records), [lens])
    return found[:, :, 0]


@torch.inference_mode()
def test_every_family_is_read_and_left_as_it_was(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records
) -> None:
    access = access_of(any_model, tokenizer)
    state = torch.get_rng_state()
    with unchanged(any_model):
        lens = TunedLens(epochs=1).fitted(with_development(access))
        found = read(access, lens, few_records)
    assert torch.equal(torch.get_rng_state(), state)
    plain = read(access, LogitLens(), few_records)
    own = plain_log_likelihoods(access.lm, batch_of(access, few_records))
    assert torch.equal(found[:, 1], plain[:, 1])
    torch.testing.assert_close(found[:, 1], own.double(), atol=1e-5, rtol=0)
    assert (found[:, 0] - plain[:, 0]).abs().min() > 1e-4


class Affine(nn.Module):
    """A block whose output is an affine map of its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)
        with torch.no_grad():
            draw = torch.Generator().manual_seed(5)
            for weight in self.map.parameters():
                weight.copy_(torch.randn(weight.shape, generator=draw) / width**0.5)

    def forward(self, hidden: Tensor, *args: object, **kwargs: object) -> Tensor:
        return hidden + self.map(hidden)


def test_a_block_that_is_an_affine_map_away_is_calibrated(
    tokenizer: Tokenizer, few_records: Records
) -> None:
    model = tiny("gpt2", tokenizer)
    transformer_blocks(model)[1] = Affine(model.config.hidden_size)
    access = access_of(model, tokenizer)
    text = random_records(60, seed=7, first=100)
    lens = TunedLens().fitted(with_development(access, text))
    (profile, _) = lens.oppose(*[side(read(access, lens, few_records), n) for n in (0, 4)])
    kl = {(one.metric, one.block): one.value for one in profile.figures}
    assert kl["kl_plain", 0] > 0.03
    assert kl["kl_tuned", 0] < 1e-4
    assert kl["kl_plain", 1] == kl["kl_tuned", 1] == 0.0
    own = plain_log_likelihoods(access.lm, batch_of(access, few_records)).double()
    seen, plain = (read(access, one, few_records)[:, 0] for one in (lens, LogitLens()))
    assert (seen - own).abs().max() < 0.05 < (plain - own).abs().max()


def side(values: Tensor, first: int) -> MeasuredSide:
    clusters = np.arange(len(values)) + first
    return MeasuredSide(values[:, :, None], ["a"] * len(values), clusters)


def test_seeds_repeat_and_batches_change_nothing(
    tokenizer: Tokenizer, few_records: Records
) -> None:
    def found(seed: int, batch_size: int = 8) -> Tensor:
        access = access_of(tiny("gpt2", tokenizer), tokenizer, batch_size)
        lens = TunedLens().fitted(with_development(replace(access, seed=seed)))
        return read(access_of(access.lm.model, tokenizer), lens, few_records)

    assert torch.equal(found(0), found(0))
    assert not torch.equal(found(0), found(1))
    torch.testing.assert_close(found(0, batch_size=2), found(0), atol=1e-4, rtol=0)


def test_texts_are_cut_by_tokens_and_read_blocks_alone_are_fitted(
    tokenizer: Tokenizer, few_records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = access_of(tiny("gpt2", tokenizer), tokenizer)
    passed = spied(monkeypatch)
    TunedLens(max_tokens=60, epochs=0).fitted(with_development(access))
    lengths = [len(one.response_ids) for one in passed]
    assert 2 <= len(passed) < len(DEVELOPMENT)
    assert sum(lengths) <= 60 < sum(lengths) + max(lengths)
    assert len({one.record_id for one in passed}) == len(passed)
    last = TunedLens([1]).fitted(with_development(access))
    found = read(access, last, few_records)
    assert found[:, 0].isnan().all()
    assert torch.equal(found[:, 1], read(access, LogitLens(), few_records)[:, 1])
    with pytest.raises(UserError, match="no block 2: the model's are 0 to 1"):
        TunedLens([0, 2]).fitted(with_development(access))


def spied(monkeypatch: pytest.MonkeyPatch) -> list[EncodedRecord]:
    """Fills up with the records that lenses are fitted on."""
    from audits.blocks.signals import tuned_lens

    passed: list[EncodedRecord] = []
    whole = tuned_lens.development_streams

    def spy(
        access: ModelAccess, encoded: list[EncodedRecord], blocks: list[int]
    ) -> dict[int, Tensor]:
        passed.extend(encoded)
        return whole(access, encoded, blocks)

    monkeypatch.setattr(tuned_lens, "development_streams", spy)
    return passed


@dataclass(frozen=True)
class OneOfTwo(Ranks):
    """A rank whose partner's results are known already."""

    partner: list[object] = field(default_factory=list)
    own: list[object] = field(default_factory=list)

    def gather(self, found: list[Item]) -> list[Item]:
        self.own[:] = found
        both = [found, self.partner or found]
        return [one for pair in zip(*both[:: 1 - 2 * self.rank], strict=True) for one in pair]


def test_ranks_share_the_blocks_and_end_with_the_same_lens(
    tokenizer: Tokenizer, few_records: Records
) -> None:
    deeper = Network("gpt2", None, {**TINY["gpt2"], "n_layer": 4})
    access = access_of(build_network(deeper, tokenizer, seed=1), tokenizer)
    expected = TunedLens(epochs=1).fitted(with_development(access))
    # Three blocks and two ranks: the second one repeats the last.
    first = OneOfTwo(0, 2)
    TunedLens(epochs=1).fitted(with_development(replace(access, ranks=first)))
    second = OneOfTwo(1, 2, partner=first.own)
    found = TunedLens(epochs=1).fitted(with_development(replace(access, ranks=second)))
    assert len(first.own) == len(second.own) == 2
    assert torch.equal(*(read(access, lens, few_records) for lens in (found, expected)))


def test_sharded_weights_give_the_same_lens(
    tokenizer: Tokenizer, few_records: Records, mesh: DeviceMesh
) -> None:
    for family in ("gpt2", "opt", "llama"):
        access = access_of(tiny(family, tokenizer), tokenizer)
        whole = TunedLens(epochs=1).fitted(with_development(access))
        expected = read(access, whole, few_records)
        shard_language_model(access.lm, mesh)
        lens = TunedLens(epochs=1).fitted(with_development(access))
        found = read(access, lens, few_records)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_hooks_and_weights_come_back_after_an_interrupt(
    any_model: PreTrainedModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = access_of(any_model, tokenizer)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    for place in ("predicting_rows", "fit_translator"):
        with unchanged(any_model), monkeypatch.context() as patch:
            patch.setattr(f"audits.blocks.signals.tuned_lens.{place}", interrupted)
            with pytest.raises(KeyboardInterrupt):
                TunedLens().fitted(with_development(access))


def scene_of(development: Records, audited: Records) -> SimpleNamespace:
    """What an audit asks of data when it looks for development text."""

    def encode(name: str, records: Records) -> list[EncodedRecord]:
        return [EncodedRecord(one.id, one.task, (1,), (2,), False, True) for one in records]

    data = SimpleNamespace(
        development_records=lambda: development,
        population=lambda name: audited if name == "held_out" else [],
        member_population="private",
        opposed_to=lambda name: "held_out",
        tokens=encode,
    )
    return SimpleNamespace(data=data)


def test_development_text_that_is_audited_or_missing_is_refused() -> None:
    sides = [LogitLens(), TunedLens()], [("private", "held_out")]
    other = random_records(3, seed=8)
    assert len(development_of(scene_of(DEVELOPMENT, other), *sides)) == len(DEVELOPMENT)
    with pytest.raises(UserError, match="tuned_lens is fitted .* 1 of the 10 .* as 'held_out'"):
        development_of(scene_of(DEVELOPMENT, [*other, DEVELOPMENT[3]]), *sides)
    with pytest.raises(UserError, match="fractions.development a larger share"):
        development_of(scene_of(DEVELOPMENT[:1], other), *sides)


def test_options_are_checked(tokenizer: Tokenizer) -> None:
    for options in ({"max_tokens": 1}, {"epochs": -1}):
        with pytest.raises(UserError, match="give 2 or more and 0 or more"):
            TunedLens(**options)
    access = access_of(tiny("gpt2", tokenizer), tokenizer)
    with pytest.raises(UserError, match="there is none here"):
        TunedLens().fitted(BlockAccess(access, no_reference))
    with pytest.raises(RuntimeError, match="before fitted"):
        read(access, TunedLens(), DEVELOPMENT[:1])
