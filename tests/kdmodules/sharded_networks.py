"""Networks from every kind of source: written by one process, sharded and compared on two ranks."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from kdmodules.models.adapters import Adapter
from kdmodules.models.blueprint import Placement, network_blueprint, realise, source_blueprint
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.checkpoints import METADATA_KEY, WEIGHTS_PREFIX, checkpoint_metadata
from kdmodules.models.network import Network, build_network
from kdmodules.models.sharding import whole_weights
from kdmodules.models.weight_files import WeightFiles
from tests.kdmodules.conftest import TINY
from tests.kdmodules.models.architectures import saved

# Rows that two ranks cannot share evenly.
ODD = {"gpt2": {"n_positions": 127}, "opt": {"ffn_dim": 63}, "llama": {"intermediate_size": 63}}
CONFIGS = {family: {**config, **ODD[family]} for family, config in TINY.items()}
IDS = torch.arange(20).view(2, 10)
MASK = torch.ones_like(IDS).index_fill(1, torch.tensor([0, 1]), 0)


def networks(folder: Path) -> dict[str, Network]:
    """Tied heads (GPT-2), projected embeddings (OPT) and rotary buffers (LLaMA), from anywhere.

    A Qwen3 in bfloat16, and one whose files hold each expert apart, which rank 0 deals.
    """
    found = {}
    for family, config in CONFIGS.items():
        stored = str(folder / family)
        found[f"{family} files"] = Network(family, stored)
        found[f"{family} scratch"] = Network(family, None, config)
        found[f"{family} adapter"] = Network(family, stored, adapter=Adapter())
        found[f"{family} pruned"] = Network(family, stored, depth_stride=2)
        found[f"{family} checkpoint"] = Network(family, f"{stored}.ckpt")
    found["qwen3 files"] = Network(source=str(folder / "qwen3"), dtype="bfloat16")
    found["qwen3_moe dealt"] = Network(source=str(folder / "qwen3_moe"))
    return found


def write_networks(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Stores a model of each family as a folder and as a checkpoint."""
    for family, config in CONFIGS.items():
        model = build_network(Network(family, None, config), tokenizer, seed=1)
        model.save_pretrained(folder / family)
        tokenizer.save_pretrained(folder / family)
        weights = {WEIGHTS_PREFIX + name: value for name, value in model.state_dict().items()}
        metadata = checkpoint_metadata(model, tokenizer)
        torch.save({"state_dict": weights, METADATA_KEY: metadata}, folder / f"{family}.ckpt")
    for kind in ("qwen3", "qwen3_moe"):
        saved(kind, tokenizer, folder / kind, intermediate_size=63)


def check_networks(
    folder: Path, tokenizer: PreTrainedTokenizerBase
) -> dict[str, tuple[bool, float]]:
    """Shards every network and compares it with the whole one, weights to the bit.

    Returns:
        Whether each was read from files, and the largest part read at once over the largest weight.
    """
    mesh = init_device_mesh("cpu", (2,))
    found = {}
    for name, network in networks(folder).items():
        blueprint = network_blueprint(network, tokenizer, seed=3)
        reads: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WeightFiles, "rows", _counting(WeightFiles.rows, reads))
            lm = realise(blueprint, len(tokenizer), Placement(mesh))
        whole = build_network(network, tokenizer, seed=3)
        _compare(lm, CausalLM(whole, len(tokenizer)))
        largest = max(weight.numel() for weight in whole.parameters())
        found[name] = (bool(reads), max(reads, default=0) / largest)
    _check_offload(folder, tokenizer)
    with pytest.raises(UserError):
        realise(source_blueprint(str(folder / "nowhere")), 1, Placement(mesh))
    return found


def _counting(rows, reads: list[int]):
    def counted(self: WeightFiles, name: str, start: int, stop: int) -> Tensor:
        part = rows(self, name, start, stop)
        reads.append(part.numel())
        return part

    return counted


def _compare(lm: CausalLM, whole: CausalLM) -> None:
    assert all(isinstance(weight, DTensor) for weight in lm.parameters())
    trained = [weight.requires_grad for weight in whole.parameters()]
    assert [weight.requires_grad for weight in lm.parameters()] == trained
    assert lm.training == whole.training
    gathered, expected = whole_weights(lm), whole.model.state_dict()
    if torch.distributed.get_rank() == 0:
        assert gathered.keys() == expected.keys()
        assert all(torch.equal(gathered[name], expected[name]) for name in expected)
    torch.testing.assert_close(_logits(lm), _logits(whole))


def _check_offload(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Offloaded shards in bfloat16 compute what the whole model in bfloat16 does."""
    blueprint = source_blueprint(str(folder / "llama"), dtype="bfloat16")
    mesh = init_device_mesh("cpu", (2,))
    lm = realise(blueprint, len(tokenizer), Placement(mesh, offload=True))
    whole = realise(blueprint, len(tokenizer), Placement())
    assert {weight.dtype for weight in (*lm.parameters(), *whole.parameters())} == {torch.bfloat16}
    assert {buffer.dtype for buffer in (*lm.buffers(), *whole.buffers())} == {torch.float32}
    torch.testing.assert_close(_logits(lm), _logits(whole))


def _logits(lm: CausalLM) -> Tensor:
    lm.eval()
    with torch.no_grad():
        return lm(lambda lm: lm.head.logits(lm.states(IDS, MASK)))
