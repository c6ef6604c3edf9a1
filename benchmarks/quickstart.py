"""The quickstart's records and networks, without its study."""

from pathlib import Path

import yaml

from datamodules.instruction import InstructionDataModule
from datamodules.split_options import Fractions, SplitOptions
from kdmodules import Network
from kdmodules.models.network import build_network

ROOT = Path(__file__).parents[1]
FRACTIONS = Fractions(private=0.18, held_out=0.18, public=0.28, never=0.28, development=0.08)


def network_config(family: str) -> dict[str, int | float | bool | str]:
    """The network of a fragment in `configs/families`."""
    fragment = yaml.safe_load((ROOT / "configs" / "families" / f"{family}.yaml").read_text())
    return fragment["model"]["init_args"]["network"]["config"]


def make_data(n_records: int) -> InstructionDataModule:
    """The quickstart's records, splits and batches."""
    return InstructionDataModule(
        n_records=n_records,
        template="alpaca",
        splits=SplitOptions(fractions=FRACTIONS),
        batch_size=8,
        group_by_length=True,
    )


def write_teacher(folder: Path, sizes: dict[str, int], data: InstructionDataModule) -> str:
    """Saves a random teacher: gpt2-mini, with other sizes where they are given."""
    network = Network("gpt2", None, {**network_config("gpt2-mini"), **sizes})
    build_network(network, data.tokenizer, seed=0).save_pretrained(folder)
    data.tokenizer.save_pretrained(folder)
    return str(folder)
