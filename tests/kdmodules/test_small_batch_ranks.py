"""Steps with fewer records and blocks than ranks and micro-batches: those of one process."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from kdmodules.losses import ForwardKL, PolicyGradient
from kdmodules.models.network import Network
from kdmodules.models.sharding import whole_weights
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import DatasetResponses, TeacherMixedRollouts
from kdmodules.sampling.mixture_sampling import MixtureSettings
from kdmodules.student import StudentModule
from kdmodules.text_loss import PlainText, dealt_text
from tests.kdmodules.student_runs import CONFIG, NO_DROPOUT, make_data, make_trainer, write_teacher
from tests.processes import free_port, rank_environment, start_ranks

STEPS = 2
RUNS = {
    "one record": ("kd", "ddp", 1, 1, 0.0),
    "three records": ("kd", "ddp", 3, 1, 0.5),
    "three records, four parts": ("kd", "ddp", 3, 4, 0.5),
    "one record, two parts, sharded": ("kd", "fsdp2", 1, 2, 0.5),
    "three records, two parts, sharded": ("kd", "fsdp2", 3, 2, 0.5),
    "three rollouts, two parts, sharded": ("minillm", "fsdp2", 3, 2, 0.0),
    "one rollout": ("minillm", "ddp", 1, 1, 0.5),
    "one rollout, sharded": ("minillm", "fsdp2", 1, 1, 0.0),
}
"""Technique, strategy on two ranks, global batch, micro-batches, KL's share of the text's loss."""


def train(name: str, teacher: str, folder: Path, alone: bool) -> dict[str, Any]:
    """Losses of every step and the weights behind the last."""
    technique, strategy, batch, accumulate, ratio = RUNS[name]
    # Micro-batches are whitened over all ranks, and one process has no others.
    whitening = "micro_batch" if accumulate == 1 else "round"
    rolled = TeacherMixedRollouts(
        MixtureSettings(max_new_tokens=4), rollouts=batch, inner_epochs=1, whitening=whitening
    )
    student = StudentModule(
        Network("gpt2", None, CONFIG | NO_DROPOUT),
        # Plain descent: Adam would make a large step of a gradient that is rounding alone.
        OptimizerSettings(lr=1e-3, eps=1.0, weight_decay=0.0),
        teacher,
        ForwardKL() if technique == "kd" else PolicyGradient(),
        DatasetResponses() if technique == "kd" else rolled,
        plain_text=PlainText("builtin", block_tokens=16, max_blocks=10),
        lm_coef=1.0,
        text_kd_ratio=ratio,
        seed=1,
    )
    losses: list[dict[str, float]] = []
    student.on_step_means = lambda means: losses.append(dict(means))
    sharded = ModelParallelStrategy(save_distributed_checkpoint=False)
    chosen = sharded if strategy == "fsdp2" else strategy
    devices = {"devices": 1} if alone else {"devices": 2, "strategy": chosen}
    trainer = make_trainer(
        folder,
        max_steps=STEPS,
        accumulate_grad_batches=1 if alone else accumulate,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        **devices,
    )
    trainer.fit(student, make_data(folder, batch_size=batch))
    weights = whole_weights(student.language_model)
    return {"losses": losses, "weights": {name: one.tolist() for name, one in weights.items()}}


def train_on_one_rank(rank: int, teacher: str, folder: str, port: int) -> None:
    """What Lightning's launcher would start."""
    torch.set_num_threads(1)
    os.environ |= rank_environment(rank, 2, port)
    found = {name: train(name, teacher, Path(folder, "two"), alone=False) for name in RUNS}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """By run: of one process with the whole batch at once, then of each of two ranks."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ranks")
    teacher = write_teacher(folder, make_data(folder))
    alone = {name: train(name, teacher, folder, alone=True) for name in RUNS}
    start_ranks(train_on_one_rank, (teacher, str(folder), free_port()))
    ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return {name: [alone[name], *(rank[name] for rank in ranks)] for name in RUNS}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_train_as_one_process_does(
    name: str, found: dict[str, list[dict[str, Any]]]
) -> None:
    alone, *ranks = found[name]
    assert len(alone["losses"]) == STEPS
    assert alone["losses"][0]["text_cross_entropy"] > 1
    # Sharded weights are gathered on the first rank alone.
    assert ranks[0]["weights"].keys() == alone["weights"].keys()
    for rank in ranks:
        for mine, whole in zip(rank["losses"], alone["losses"], strict=True):
            assert mine == pytest.approx(whole, rel=1e-5, abs=1e-6)
        for weight, values in rank["weights"].items():
            expected = torch.tensor(alone["weights"][weight])
            torch.testing.assert_close(torch.tensor(values), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("n", range(1, 10))
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_every_block_is_dealt_once_in_as_many_parts_on_every_rank(
    n: int, world_size: int, accumulate: int
) -> None:
    blocks = torch.arange(n).unsqueeze(1).repeat(1, 5)
    dealt = [dealt_text(blocks, rank, world_size, accumulate) for rank in range(world_size)]
    (parts,) = {len(one) for one in dealt}
    assert 1 <= parts <= accumulate
    scored = [
        int(row[0])
        for one in dealt
        for part in one
        for row, mask in zip(part.input_ids, part.response_mask, strict=True)
        if mask.any()
    ]
    assert sorted(scored) == list(range(n))
    sizes = [len(part.input_ids) for one in dealt for part in one]
    assert max(sizes) == -(-n // (world_size * accumulate))
    for one in dealt:
        for part in one:
            # All tokens of a block but its first, or none of them.
            counts = part.response_mask.sum(dim=1).tolist()
            assert counts in ([4] * len(counts), [0])
