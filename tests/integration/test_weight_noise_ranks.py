"""Weight noise on two ranks, each with its rows of every weight, is that on one process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import PreTrainedTokenizerFast

from audits.blocks.recorder import transformer_blocks
from audits.blocks.signals import BlockAccess, BlockMoPe
from audits.membership.signals import WeightNoise
from audits.scoring.model_access import ModelAccess
from common.ranks import Ranks
from datamodules.batches import EncodedRecord
from kdmodules.models.adapters import Adapter, add_adapter
from kdmodules.models.network import Network, build_network
from kdmodules.models.sharding import shard_language_model
from tests.audits.blocks.conftest import no_reference
from tests.audits.membership.signals.conftest import RESPONSES, access_of, record
from tests.kdmodules.conftest import tokenizer
from tests.processes import start_ranks

__all__ = ["tokenizer"]

# 33 and 99 rows do not divide by two ranks; of the adapter's single row the second rank has none.
ODD = {"n_layer": 2, "n_head": 3, "n_embd": 33, "n_positions": 127}
MOPE = WeightNoise(draws=3, scale=0.3, relative=True, antithetic=True)
BLOCK_MOPE = BlockMoPe(draws=3, rho=0.3)
ROW = "transformer.h.0.attn.c_attn.lora_A.default.weight"


@dataclass
class Case:
    """A model with an adapter and five records of it, in batches of two."""

    access: ModelAccess
    encoded: list[EncodedRecord]

    def signals(self) -> dict[str, Callable[[], Tensor]]:
        """Both signals, ready to be measured."""
        blocks = BlockAccess(self.access, no_reference)
        return {
            "mope": partial(MOPE.measure, self.access, self.encoded),
            "block_mope": partial(BLOCK_MOPE.measure, blocks, self.encoded),
        }


def make_case(tokenizer: PreTrainedTokenizerFast) -> Case:
    model = build_network(Network("gpt2", None, ODD), tokenizer, seed=1)
    add_adapter(model, Adapter(r=1, alpha=4), seed=0)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    access = access_of(model, tokenizer, batch_size=2)
    texts = [record(i, f"the cat {i}", RESPONSES[i]) for i in range(5)]
    return Case(access, access.encoder.encode_all(texts))


@contextmanager
def broken_off(case: Case, at: int) -> Iterator[None]:
    """Interrupts the forward pass of the last block when it is called so many times."""
    calls = []

    def interrupt(module: torch.nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    handle = transformer_blocks(case.access.lm.model)[-1].ln_2.register_forward_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        handle.remove()
    assert len(calls) == at


def shards(case: Case) -> dict[str, Tensor]:
    """Copies of what this rank holds; no weight may be whole."""
    found = {}
    for name, weight in case.access.lm.model.named_parameters():
        assert isinstance(weight, DTensor), name
        found[name] = weight.detach().to_local().clone()
    return found


def measure_on_one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        timeout=timedelta(seconds=60),
        rank=rank,
        world_size=2,
    )
    case: Case = torch.load(f"{folder}/case.pt", weights_only=False)
    case.access = replace(case.access, ranks=Ranks(rank, 2))
    shard_language_model(case.access.lm, init_device_mesh("cpu", (2,)))
    before = shards(case)
    assert before[ROW].shape == (1 - rank, 33)

    def unchanged() -> None:
        for name, held in shards(case).items():
            assert torch.equal(held, before[name]), name

    found: dict[str, list[Tensor]] = {}
    for name, measure in case.signals().items():
        found[name] = [measure()]
        unchanged()
        # The 6th call is in the middle of the disturbances of either signal.
        with broken_off(case, at=6):
            measure()
        unchanged()
        with pytest.raises(FloatingPointError, match="cannot be scored"):
            too_much(case, name)
        unchanged()
        # Whatever is left of a disturbance in a whole copy would tell now.
        with torch.inference_mode():
            found[name].append(measure())
        unchanged()
    # Blocks that stay whole between their passes would run on what was gathered first.
    case.access.lm.set_reshard_after_forward(False)
    for name, measure in case.signals().items():
        found[name].append(measure())
        unchanged()
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def too_much(case: Case, name: str) -> Tensor:
    """Measures a signal whose noise makes every number of a pass infinite or none."""
    if name == "mope":
        return replace(MOPE, scale=1e39, relative=False).measure(case.access, case.encoded)
    return BlockMoPe(3, None, 1e39).measure(BlockAccess(case.access, no_reference), case.encoded)


@pytest.mark.slow
def test_two_ranks_disturb_the_model_of_one(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    case = make_case(tokenizer)
    torch.save(case, tmp_path / "case.pt")
    alone = {name: measure() for name, measure in case.signals().items()}
    assert alone["mope"].shape == (5, 3)
    assert alone["block_mope"].shape == (5, 2, 3)
    start_ranks(measure_on_one_rank, (str(tmp_path),))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, expected in alone.items():
            assert expected.abs().min() > 1e-5
            for own in found[name]:
                torch.testing.assert_close(own, expected, atol=1e-6, rtol=0)
