"""What a student is shown of its teacher: each coarsening by its definition, and in the loss."""

import math
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from datamodules.batches import EncodedRecord, collate
from kdmodules.losses import ForwardKL, KDStep, Reduction
from kdmodules.responses import DatasetResponses, TeacherResponses
from kdmodules.student import StudentModule
from kdmodules.teacher_output import CoarseTeacher, TeacherOutput, check_teacher_output
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher

N, V = 40, 60


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.log_softmax(3 * torch.randn(N, V, dtype=torch.float64), -1)


def test_the_likeliest_stay_and_the_rest_share_what_is_left(rows: torch.Tensor) -> None:
    shown = TeacherOutput(top_k=5).shown(rows, None).double()
    for given, told in zip(rows.tolist(), shown.tolist(), strict=True):
        order = sorted(range(V), key=lambda v: -given[v])
        rest = 1 - math.fsum(math.exp(given[v]) for v in order[:5])
        for place, v in enumerate(order):
            expected = math.exp(given[v]) if place < 5 else rest / (V - 5)
            assert math.exp(told[v]) == pytest.approx(expected, rel=1e-4)
    assert torch.equal(
        TeacherOutput(top_k=V, temperature=2.0).shown(rows, None).argmax(-1), rows.argmax(-1)
    )


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_bits_leave_so_many_values(rows: torch.Tensor, bits: int) -> None:
    output = TeacherOutput(bits=bits, range_nats=12.0)
    shown = output.shown(rows, None)
    step = 12.0 / (2**bits - 1)
    rounded = torch.tensor(
        [[round(max(one, -12.0) / step) * step for one in row] for row in rows.tolist()]
    )
    torch.testing.assert_close(shown, rounded.double().log_softmax(-1), rtol=1e-6, atol=1e-6)
    assert all(len(row.unique()) <= 2**bits for row in rounded)
    torch.testing.assert_close(shown.exp().sum(-1), torch.ones(N, dtype=torch.float64))


def test_a_temperature_divides_the_logits(rows: torch.Tensor) -> None:
    shown = TeacherOutput(temperature=4.0).shown(rows, None)
    torch.testing.assert_close(shown, (rows / 4).softmax(-1).log())


def test_noise_is_normal_and_a_function_of_the_text_before() -> None:
    flat = torch.zeros(1000, 300, dtype=torch.float64)
    contexts = torch.arange(1000) * 7919
    noise = TeacherOutput(noise=2.0).shown(flat, contexts)
    noise = noise - noise.mean(dim=1, keepdim=True)
    count = flat.numel()
    assert noise.var().item() / 4 == pytest.approx(1, abs=5 * math.sqrt(2 / count) + 1 / 300)
    kurtosis = (noise**4).mean() / noise.var() ** 2
    assert kurtosis.item() == pytest.approx(3, abs=5 * math.sqrt(24 / count) + 0.03)
    across = (noise[:-1] * noise[1:]).mean() / 4
    assert abs(across.item()) < 5 / math.sqrt(count)
    again = TeacherOutput(noise=2.0).shown(flat[:2], contexts[[5, 5]])
    assert torch.equal(again[0], again[1])
    torch.testing.assert_close(again[0] - again[0].mean(), noise[5])


def test_the_context_is_the_text_alone() -> None:
    """Its place in a batch, its padding and its record do not count."""
    output = TeacherOutput(noise=1.0)
    record = EncodedRecord("a", "task", (5, 6, 7), (8, 9))
    longer = EncodedRecord("b", "task", (5, 6, 7, 8, 9), (10, 11, 12))
    alone = output.with_contexts(collate([record], 0)).token_extras()
    beside = output.with_contexts(collate([longer, record], 0, "left")).token_extras()
    (name,) = alone
    assert torch.equal(alone[name], beside[name][-2:])
    other = TeacherOutput(noise=1.0, key=1).with_contexts(collate([record], 0)).token_extras()
    assert not torch.equal(alone[name], other[name])
    assert not TeacherOutput(bits=3).with_contexts(collate([record], 0)).extras


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_objective_reads_what_is_shown(temperature: float) -> None:
    torch.manual_seed(1)
    student, teacher = (torch.randn(N, 8, dtype=torch.float64) for _ in range(2))
    head, teachers_head = (torch.randn(V, 8, dtype=torch.float64) for _ in range(2))
    contexts = torch.arange(N)
    output = TeacherOutput(noise=0.5, top_k=9, bits=5)
    student.requires_grad_()
    step = KDStep(
        student,
        head,
        torch.zeros(N, dtype=torch.int64),
        ((teacher, teachers_head),),
        extras={"teacher output context": contexts},
        reduction=Reduction(temperature=temperature, chunk_tokens=7),
    )
    found = CoarseTeacher(ForwardKL(), output, temperature)(step)
    shown = output.shown((teacher @ teachers_head.T).log_softmax(-1), contexts)
    told = (shown / temperature).log_softmax(-1)
    heard = (student @ head.T / temperature).log_softmax(-1)
    expected = (told.exp() * (told - heard)).sum()
    torch.testing.assert_close(found.total, expected)
    (gradient,) = torch.autograd.grad(found.total, student)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, student)[0])


def first_losses(folder: Path, output: TeacherOutput | None) -> float:
    """Divergence that a student trains on in its first step."""
    data = make_data(folder)
    plain = make_student(write_teacher(folder, data), DatasetResponses())
    student = StudentModule(
        plain.network,
        plain.optimizer,
        list(plain.teachers.sources),
        ForwardKL(),
        DatasetResponses(),
        seed=1,
        teacher_output=output,
    )
    trainer = make_trainer(folder, max_steps=1, limit_val_batches=0)
    trainer.fit(student, data)
    return float(trainer.logged_metrics["train/kd"])


def test_a_student_is_trained_on_what_it_is_shown(tmp_path: Path) -> None:
    """Rows at a high temperature are near a random student's; noisy ones are far from it."""
    exact = first_losses(tmp_path / "exact", None)
    coarse = first_losses(tmp_path / "coarse", TeacherOutput(temperature=1e6))
    noisy = first_losses(tmp_path / "noisy", TeacherOutput(noise=3.0))
    assert coarse < exact < noisy / 5


@pytest.mark.parametrize(
    ("responses", "reduction", "text_kd_ratio", "why"),
    [
        (DatasetResponses(), Reduction(kd_ratio=0.0), 0.0, "kd_ratio is 0"),
        (TeacherResponses(), Reduction(), 0.0, "TeacherResponses samples from the teacher"),
        (DatasetResponses(), Reduction(), 0.5, "text_kd_ratio reads its rows"),
    ],
)
def test_a_channel_past_it_is_refused(
    responses: object, reduction: Reduction, text_kd_ratio: float, why: str
) -> None:
    check_teacher_output(None, responses, reduction, text_kd_ratio)
    with pytest.raises(UserError, match=why):
        check_teacher_output(TeacherOutput(bits=4), responses, reduction, text_kd_ratio)


def test_an_output_that_changes_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="changes nothing"):
        TeacherOutput(range_nats=3.0)
