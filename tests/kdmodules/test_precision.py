"""bfloat16 in the weights or in the products: losses, scores and statistics stay float32."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from datamodules.batches import EncodedRecord, InstructionBatch
from datamodules.instruction import InstructionDataModule
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, build_network
from kdmodules.responses import DatasetResponses
from kdmodules.responses.rollouts import Rollout, rollout_batch
from kdmodules.sampling.joint_decoding import log_mixture
from kdmodules.scoring import token_statistics
from kdmodules.teachers import Teachers, TeacherWeights
from tests.kdmodules.conftest import TINY
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> InstructionDataModule:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, data: InstructionDataModule) -> str:
    return write_teacher(tmp_path_factory.mktemp("teacher"), data)


def train(
    teacher: str,
    data: InstructionDataModule,
    folder: Path,
    precision: str = "32-true",
    weights: TeacherWeights | None = None,
) -> tuple[list[float], dict[str, set[torch.dtype]]]:
    """Two steps of kd: their losses, and the types of sums, weights and the teacher's part."""
    student = make_student(teacher, DatasetResponses())
    if weights is not None:
        student.teachers = Teachers(student.teachers.sources, weights)
    losses: list[float] = []
    types: dict[str, set[torch.dtype]] = {"sums": set(), "teacher": set()}
    loss_sums = student.loss_sums

    def spy(batch: InstructionBatch, text: None) -> Mapping[str, torch.Tensor]:
        sums = loss_sums(batch, text)
        types["sums"] |= {value.dtype for value in sums.values() if value.is_floating_point()}
        for hidden, head in student.teachers.rows(batch):
            types["teacher"] |= {hidden.dtype, head.weight.dtype}
        return sums

    student.loss_sums = spy
    student.on_step_means = lambda means: losses.append(means["loss"])
    trainer = make_trainer(folder, max_steps=2, limit_val_batches=0, precision=precision)
    trainer.fit(student, data)
    types["weights"] = {weight.dtype for weight in student.parameters()}
    return losses, types


@pytest.fixture(scope="module")
def exact(
    teacher: str, data: InstructionDataModule, tmp_path_factory: pytest.TempPathFactory
) -> list[float]:
    """Losses in float32 throughout."""
    return train(teacher, data, tmp_path_factory.mktemp("exact"))[0]


@pytest.mark.parametrize(
    ("precision", "weights", "held"),
    [
        ("bf16-mixed", None, torch.float32),
        ("bf16-true", None, torch.bfloat16),
        ("32-true", TeacherWeights("bfloat16"), torch.float32),
    ],
)
def test_losses_are_float32(
    precision: str,
    weights: TeacherWeights | None,
    held: torch.dtype,
    teacher: str,
    data: InstructionDataModule,
    exact: list[float],
    tmp_path: Path,
) -> None:
    losses, types = train(teacher, data, tmp_path, precision, weights)
    assert types["sums"] == {torch.float32}
    assert types["weights"] == {held}
    assert types["teacher"] == {torch.float32 if weights is None else torch.bfloat16}
    # bfloat16 has 8 bits: logits of size 0.1 are wrong by some 1e-3, their KL by a few percent.
    assert losses == pytest.approx(exact, rel=0.05)
    assert losses != exact


def test_rotary_angles_stay_exact(tokenizer: PreTrainedTokenizerFast) -> None:
    lm = CausalLM(build_network(Network("llama", None, TINY["llama"]), tokenizer, 1), 300)
    before = {name: buffer.clone() for name, buffer in lm.named_buffers()}
    assert before
    torch.nn.ModuleDict({"lm": lm}).to(torch.bfloat16)
    assert {weight.dtype for weight in lm.parameters()} == {torch.bfloat16}
    for name, buffer in lm.named_buffers():
        assert torch.equal(buffer, before[name])
        assert not torch.equal(buffer.bfloat16().float(), before[name])


def test_statistics_of_a_bfloat16_model_are_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(9, 16, generator=generator).bfloat16()
    weight = torch.randn(50, 16, generator=generator).bfloat16()
    targets = torch.arange(9)
    scores = token_statistics(hidden, weight, targets)
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)
    assert scores.logp.dtype == torch.float32
    expected = exact.gather(-1, targets.unsqueeze(-1)).squeeze(-1).float()
    torch.testing.assert_close(scores.logp, expected, atol=1e-5, rtol=0)


@contextmanager
def bfloat16_by_default() -> Iterator[None]:
    """What Lightning's precision bf16-true sets while a step runs."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def test_rollouts_are_as_exact_inside_a_bfloat16_step() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 30, generator=generator) for _ in range(2)]
    record = EncodedRecord("a", "", (1, 2), (3, 4, 5), False, False)
    values = torch.tensor([0.1, 0.2, 0.3])
    rollout = Rollout(record, values, values, values)
    exact = log_mixture(logits, [0.8, 0.2], 1.0), rollout_batch([rollout], 0).extras["old_logp"]
    with bfloat16_by_default():
        mixed = log_mixture(logits, [0.8, 0.2], 1.0)
        extra = rollout_batch([rollout], 0).extras["old_logp"]
    assert torch.equal(mixed, exact[0])
    assert torch.equal(extra, exact[1])
    assert mixed.logsumexp(-1).abs().max() < 1e-6
