"""Response sources on two ranks: the texts and the losses of one."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.batches import InstructionBatch
from datamodules.instruction import InstructionDataModule
from kdmodules.responses import (
    AdaptiveReplay,
    MixedResponses,
    ResponseContext,
    ResponseSource,
)
from kdmodules.sampling import SamplingSettings
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher

STEPS = 5
SAMPLING = SamplingSettings(max_new_tokens=5)


def sources() -> dict[str, ResponseSource]:
    """Fresh text for some rows, and for whole steps beside a buffer.

    A buffer of 9 is full in the middle of a step, and drops what its order says.
    """
    return {
        "mixed": MixedResponses(0.6, coin="record", sampling=SAMPLING),
        "replay": AdaptiveReplay("increasing", 9, initial_threshold=0.9, sampling=SAMPLING),
    }


def train(
    name: str, teacher: str, data: InstructionDataModule, folder: Path, ranks: int
) -> dict[str, Any]:
    """Trains with one source; returns (step, record, text) of every row trained on, and losses."""
    source, found = sources()[name], {"texts": [], "losses": []}
    replace = source.replace

    def spy(batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        batch = replace(batch, context)
        for row, record_id in enumerate(batch.record_ids):
            text = batch.input_ids[row][batch.response_mask[row]].tolist()
            if record_id:
                found["texts"].append([context.step, record_id, text])
        return batch

    source.replace = spy
    student = make_student(teacher, source)
    student.on_step_means = lambda means: found["losses"].append(means["loss"])
    strategy = {"strategy": "ddp", "devices": ranks} if ranks > 1 else {"devices": 1}
    # 5 records by 2 micro-batches by 2 ranks are 2, 1, 1 and 1.
    trainer = make_trainer(
        folder, max_steps=STEPS, accumulate_grad_batches=2, limit_val_batches=0, **strategy
    )
    trainer.fit(student, data)
    if name == "replay":
        found["buffer"] = source.state_dict()["buffer"]
        found["shares"] = source.metrics()
    return found


def train_on_one_rank(rank: int, teacher: str, folder: str, port: int) -> None:
    """What Lightning's launcher would start."""
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    data = make_data(Path(folder), batch_size=5)
    found = {name: train(name, teacher, data, Path(folder), ranks=2) for name in sources()}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_ranks_train_on_the_texts_of_one(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data = make_data(tmp_path, batch_size=5)
    teacher = write_teacher(tmp_path, data)
    one = {name: train(name, teacher, data, tmp_path, ranks=1) for name in sources()}
    arguments = (teacher, str(tmp_path), free_port())
    torch.multiprocessing.spawn(train_on_one_rank, args=arguments, nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    for name, alone in one.items():
        texts = first[name]["texts"] + second[name]["texts"]
        assert len(texts) == STEPS * 5
        assert sorted(texts) == sorted(alone["texts"])
        assert len(alone["losses"]) == STEPS
        for rank in (first, second):
            assert rank[name]["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    for rank in (first, second):
        assert rank["replay"]["buffer"] == one["replay"]["buffer"]
    shares = one["replay"]["shares"]
    assert min(shares["share_fresh"], shares["share_replayed"]) > 0
