"""Two ranks, teachers sharded or not: the texts and the losses of one process."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.tensor import DTensor

from datamodules.batches import InstructionBatch
from datamodules.instruction import InstructionDataModule
from kdmodules.losses import ForwardKL, PolicyGradient, Reduction
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.responses import (
    AdaptiveReplay,
    DatasetResponses,
    MixedResponses,
    ResponseContext,
    ResponseSource,
    TeacherMixedRollouts,
    TeacherResponses,
)
from kdmodules.sampling.mixture_sampling import MixtureSettings
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.teachers import Teachers, TeacherWeights
from tests.kdmodules.sharded_networks import check_networks, write_networks
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher
from tests.processes import free_port, rank_environment, start_ranks

SAMPLING = SamplingSettings(max_new_tokens=5)
RUNS = {
    "kd": ("kd", "ddp", True),
    "mixed": ("mixed", "ddp", None),
    "by sequence": ("by sequence", "ddp", None),
    "replay": ("replay", "ddp", None),
    "kd sharded": ("kd", "fsdp2", None),
    "mixed sharded": ("mixed", "fsdp2", None),
    "seqkd sharded": ("seqkd", "fsdp2", None),
    "minillm sharded": ("minillm", "fsdp2", None),
}
"""Source, strategy, and whether the teacher is told to be sharded, of every run on two ranks."""


def steps(name: str) -> int:
    """Optimiser steps: enough for a buffer to run full, or for two passes over a round."""
    return {"replay": 5, "minillm": 4}.get(name, 3)


def make_source(name: str) -> ResponseSource:
    """The data set's text, the student's for some rows or whole steps, the teacher's, and both's.

    A buffer of 9 is full in the middle of a step, and drops what its order says.
    """
    if name in ("kd", "by sequence"):
        return DatasetResponses()
    if name == "mixed":
        return MixedResponses(0.6, coin="record", sampling=SAMPLING)
    if name == "replay":
        return AdaptiveReplay("increasing", 9, initial_threshold=0.9, sampling=SAMPLING)
    if name == "seqkd":
        return TeacherResponses(SAMPLING, sampling_batch_size=16)
    return TeacherMixedRollouts(MixtureSettings(max_new_tokens=5), rollouts=10, inner_epochs=2)


def train(
    name: str,
    teacher: str,
    data: InstructionDataModule,
    folder: Path,
    strategy: str | None = None,
    sharded: bool | None = None,
) -> dict[str, Any]:
    """Trains with one source; returns (step, record, text) of every row trained on, and losses."""
    source, found = make_source(name), {"texts": [], "losses": []}
    replace = source.replace

    def spy(batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        batch = replace(batch, context)
        for row, record_id in enumerate(batch.record_ids):
            text = batch.input_ids[row][batch.response_mask[row]].tolist()
            if record_id:
                found["texts"].append([context.step, record_id, text])
        return batch

    source.replace = spy
    student = make_student(teacher, source, PolicyGradient() if name == "minillm" else ForwardKL())
    student.teachers = Teachers(student.teachers.sources, TeacherWeights(sharded=sharded))
    if name == "by sequence":
        student.reduction = Reduction(kd_ratio=0.5, normalisation="sequence")
    student.on_step_means = lambda means: found["losses"].append(means["loss"])
    parallel = ModelParallelStrategy(save_distributed_checkpoint=False)
    devices = {} if strategy is None else {"strategy": strategy, "devices": 2}
    if strategy == "fsdp2":
        devices["strategy"] = parallel
    # 5 records by 2 micro-batches by 2 ranks are 2, 1, 1 and 1.
    trainer = make_trainer(
        folder,
        max_steps=steps(name),
        accumulate_grad_batches=2,
        limit_val_batches=0,
        **{"devices": 1, **devices},
    )
    trainer.fit(student, data)
    found["held"] = held_shares(student.teachers)
    if name == "replay":
        found["buffer"] = source.state_dict()["buffer"]
        found["shares"] = source.metrics()
    return found


def held_shares(teachers: Teachers) -> list[float]:
    """Which share of every weight of the teachers' blocks this rank holds."""
    weights = [
        weight
        for model in teachers.models
        for block in transformer_blocks(model.model)
        for weight in block.parameters()
    ]
    return [
        (weight.to_local() if isinstance(weight, DTensor) else weight).numel() / weight.numel()
        for weight in weights
    ]


def train_on_one_rank(rank: int, teacher: str, folder: str, port: int) -> None:
    """What Lightning's launcher would start."""
    torch.set_num_threads(1)
    os.environ |= rank_environment(rank, 2, port)
    two = Path(folder, "two")
    data = make_data(two, batch_size=5)
    found: dict[str, Any] = {
        name: train(source, teacher, data, two, strategy, sharded)
        for name, (source, strategy, sharded) in RUNS.items()
    }
    found["networks"] = check_networks(Path(folder), data.tokenizer)
    Path(folder, f"{rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one process found, and each of two; processes are dear, so they do all at once."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ranks")
    data = make_data(folder, batch_size=5)
    teacher = write_teacher(folder, data)
    write_networks(folder, data.tokenizer)
    one = {name: train(name, teacher, data, folder) for name in {run[0] for run in RUNS.values()}}
    start_ranks(train_on_one_rank, (teacher, str(folder), free_port()))
    return [one, *(json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RUNS))
def test_two_ranks_train_on_the_texts_of_one(name: str, ranks: list[dict[str, Any]]) -> None:
    one, first, second = ranks
    alone = one[RUNS[name][0]]
    texts = first[name]["texts"] + second[name]["texts"]
    assert len(texts) == steps(RUNS[name][0]) * 5
    assert sorted(texts) == sorted(alone["texts"])
    assert len(alone["losses"]) == steps(RUNS[name][0])
    for rank in (first, second):
        assert rank[name]["losses"] == pytest.approx(alone["losses"], abs=1e-5)


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_sharded_teacher_is_whole_on_no_rank(name: str, ranks: list[dict[str, Any]]) -> None:
    _, first, second = ranks
    pairs = list(zip(first[name]["held"], second[name]["held"], strict=True))
    sharded = "sharded" in name or RUNS[name][2]
    for pair in pairs:
        assert sum(pair) == pytest.approx(1 if sharded else 2)
        assert pair == ((0.5, 0.5) if sharded else (1, 1))


def test_two_ranks_fill_the_buffer_of_one(ranks: list[dict[str, Any]]) -> None:
    one, *two = ranks
    for rank in two:
        assert rank["replay"]["buffer"] == one["replay"]["buffer"]
    shares = one["replay"]["shares"]
    assert min(shares["share_fresh"], shares["share_replayed"]) > 0


def test_every_kind_of_source_is_sharded_to_the_bit(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks[1:]:
        found = rank["networks"]
        assert len(found) == 17
        for name, (read_from_files, largest_read) in found.items():
            assert read_from_files == name.endswith("files"), name
            # Half of the largest weight, and nothing larger, is in host memory beside the shard.
            assert largest_read <= 0.51 if read_from_files else largest_read == 0, name
