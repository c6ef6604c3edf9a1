"""Two ranks share the draws of one and add its noise once."""

import os
from pathlib import Path

import torch
from scipy import stats

from datamodules.instruction import InstructionDataModule
from kdmodules.privacy.settings import PrivateTraining
from tests.kdmodules.student_runs import make_data, make_trainer
from tests.kdmodules.test_private_training import make_teacher, weights
from tests.processes import free_port, rank_environment, start_ranks

NOISE, CLIP, BATCH = 1.5, 0.4, 6
RUNS = {"draws": None, "empty": 1e5}
"""Units that the side is said to have: as many as there are, or so many that no draw holds one."""


def train(
    folder: Path, data: InstructionDataModule, units: float | None, **options: object
) -> dict[str, torch.Tensor]:
    """The gradients of two steps, and the weights after them."""
    seen: dict[str, torch.Tensor] = {}
    module = make_teacher(PrivateTraining(noise=NOISE, clip=CLIP, units=units, seed=4))
    module.on_before_optimizer_step = lambda _: seen.update(
        {str(len(seen)): torch.cat([one.grad.flatten().clone() for one in module.parameters()])}
    )
    make_trainer(folder, max_steps=2, limit_val_batches=0, **options).fit(module, data)
    return {**seen, "weights": weights(module)}


def train_on_one_rank(rank: int, folder: str, port: int) -> None:
    """What Lightning's launcher would start."""
    torch.set_num_threads(1)
    os.environ |= rank_environment(rank, 2, port)
    data = make_data(Path(folder))
    ddp = {"strategy": "ddp", "devices": 2}
    found = {name: train(Path(folder), data, units, **ddp) for name, units in RUNS.items()}
    torch.save(found, Path(folder, f"{rank}.pt"))


def test_two_ranks_draw_and_add_noise_once(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    alone = {name: train(tmp_path, data, units, devices=1) for name, units in RUNS.items()}
    start_ranks(train_on_one_rank, (str(tmp_path), free_port()))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name in RUNS:
        for part, expected in alone[name].items():
            assert torch.equal(first[name][part], second[name][part])
            torch.testing.assert_close(first[name][part], expected, rtol=1e-4, atol=1e-6)
    noise = first["empty"]["0"].double() / (NOISE * CLIP / BATCH)
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], len(noise))
    assert low < float(noise.square().sum()) < high
    assert not torch.allclose(first["draws"]["0"], first["empty"]["0"])
