"""The chunked reduction against full logits in float64, and its promises about memory and modes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy as full_cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from common.errors import UserError
from kdmodules.losses import (
    AdaptiveKL,
    ForwardKL,
    JensenShannon,
    KDLoss,
    KDStep,
    NonFiniteLossError,
    Reduction,
    ReverseKL,
    SkewReverseKL,
    TeacherTopK,
    TotalVariation,
    cross_entropy,
)

OBJECTIVES = [
    ForwardKL(),
    ReverseKL(),
    JensenShannon(0.1),
    SkewReverseKL(0.1),
    TotalVariation(),
    AdaptiveKL(),
    TeacherTopK(ForwardKL(), 4),
]
objectives = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
N, V, VALID = 37, 30, 27


def make_step(
    seed: int = 0, dtype: torch.dtype = torch.float64, n: int = N, teachers: int = 1
) -> KDStep:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return KDStep(
        student_hidden=normal(n, 8).requires_grad_(),
        student_weight=normal(V, 8).requires_grad_(),
        targets=torch.randint(0, VALID, (n,), generator=generator),
        teachers=[(normal(n, 6), normal(V + 3, 6)) for _ in range(teachers)],
        record_index=torch.arange(n) // 5,
        vocabulary_size=VALID,
    )


def full_logits(objective: KDLoss, step: KDStep) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and both gradients with every logit at once, in float64."""
    hidden = step.student_hidden.detach().double().requires_grad_()
    weight = step.student_weight.detach().double().requires_grad_()
    student = hidden @ weight[: step.n_valid].T
    options = step.reduction
    loss = (1 - options.kd_ratio) * full_cross_entropy(student, step.targets, reduction="sum")
    if options.kd_ratio > 0:
        t = options.temperature
        p = torch.stack(
            [(h.double() @ w.double()[: step.n_valid].T / t).softmax(-1) for h, w in step.teachers]
        ).mean(0)
        divergence = objective.per_token((student / t).log_softmax(-1), p.log()).sum()
        loss = loss + options.kd_ratio * divergence * (t * t if options.rescale else 1)
    return loss.detach(), *torch.autograd.grad(loss, (hidden, weight))


def ours(objective: KDLoss, step: KDStep, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    sums = objective(step)
    grads = torch.autograd.grad(sums.total * scale, (step.student_hidden, step.student_weight))
    return sums.total.detach(), *grads


@objectives
@pytest.mark.parametrize(
    "options",
    [
        Reduction(),
        Reduction(kd_ratio=0.3, chunk_tokens=8),
        Reduction(kd_ratio=0.7, temperature=2.5, chunk_tokens=5),
        Reduction(temperature=0.5, rescale=True),
        Reduction(kd_ratio=0.0, chunk_tokens=16),
    ],
    ids=str,
)
@pytest.mark.parametrize("teachers", [1, 3])
def test_equals_full_logits_with_gradients(objective, options, teachers):
    for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        step = replace(make_step(dtype=dtype, teachers=teachers), reduction=options)
        for mine, naive in zip(ours(objective, step), full_logits(objective, step), strict=True):
            assert mine.dtype == dtype
            size = naive.abs().max().item()
            torch.testing.assert_close(mine.double(), naive, rtol=rtol, atol=rtol * max(1, size))


@objectives
def test_the_autograd_fallback_equals_the_closed_form(objective):
    class Plain(KDLoss):
        def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
            return objective.per_token(student_logp, teacher_logp)

    step = replace(make_step(), reduction=Reduction(kd_ratio=0.6, chunk_tokens=10))
    for plain, closed in zip(ours(Plain(), step), ours(objective, step), strict=True):
        torch.testing.assert_close(plain, closed, rtol=1e-9, atol=1e-12)


def test_chunk_size_changes_nothing():
    step = make_step(dtype=torch.float32)
    results = [
        ours(JensenShannon(0.1), replace(step, reduction=Reduction(0.5, 2.0, chunk_tokens=size)))
        for size in (1, 7, N, 1000, None)
    ]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_reports_sums_of_each_term_in_nats():
    step = replace(make_step(), reduction=Reduction(kd_ratio=0.25, temperature=2.0, rescale=True))
    sums = ForwardKL()(step)
    ce = full_logits(ForwardKL(), replace(step, reduction=Reduction(kd_ratio=0)))[0]
    kd = full_logits(ForwardKL(), replace(step, reduction=Reduction(temperature=2.0)))[0]
    torch.testing.assert_close(sums.ce_sum, ce)
    torch.testing.assert_close(sums.kd_sum, kd)
    torch.testing.assert_close(sums.total.detach(), 0.75 * ce + 0.25 * 4 * kd)
    assert sums.n_tokens == N
    assert list(sums.terms) == ["kd"]
    assert not sums.ce_sum.requires_grad
    assert not sums.kd_sum.requires_grad


def test_the_incoming_gradient_scales_both_and_padded_rows_get_none():
    step = make_step()
    _, hidden, weight = ours(ForwardKL(), step)
    _, hidden_scaled, weight_scaled = ours(ForwardKL(), step, scale=-3.0)
    torch.testing.assert_close(hidden_scaled, -3 * hidden)
    torch.testing.assert_close(weight_scaled, -3 * weight)
    assert weight[:VALID].any(dim=1).all()
    assert not weight[VALID:].any()


def test_unequal_micro_batches_add_up_to_one_batch():
    step = make_step()
    whole = ours(JensenShannon(0.1), step)
    parts = []
    for start, stop in ((0, 3), (3, 3), (3, 30), (30, N)):
        rows = slice(start, stop)
        part = replace(
            step,
            student_hidden=step.student_hidden.detach()[rows].requires_grad_(),
            targets=step.targets[rows],
            teachers=[(h[rows], w) for h, w in step.teachers],
            record_index=step.record_index[rows],
        )
        parts.append(ours(JensenShannon(0.1), part))
    losses, hidden, weights = zip(*parts, strict=True)
    torch.testing.assert_close(torch.stack(losses).sum(), whole[0])
    torch.testing.assert_close(torch.cat(hidden), whole[1])
    torch.testing.assert_close(torch.stack(weights).sum(0), whole[2])


@objectives
@pytest.mark.parametrize("kd_ratio", [0.0, 0.5, 1.0])
def test_no_tokens_give_zero_and_zero_gradients(objective, kd_ratio):
    step = replace(make_step(n=0), reduction=Reduction(kd_ratio=kd_ratio))
    total, hidden, weight = ours(objective, step)
    assert total.item() == 0
    assert hidden.shape == (0, 8)
    assert weight.shape == (V, 8)
    assert not weight.any()


def test_without_gradients_only_values_are_computed():
    class NoGradient(ForwardKL):
        def per_token_with_grad(self, student_logp, teacher_logp):
            raise AssertionError("asked for a gradient")

    step = make_step()
    expected = ForwardKL()(step).total.detach()
    with torch.no_grad():
        silent = NoGradient()(step)
    frozen = NoGradient()(
        replace(
            step,
            student_hidden=step.student_hidden.detach(),
            student_weight=step.student_weight.detach(),
        )
    )
    for sums in (silent, frozen):
        assert not sums.total.requires_grad
        torch.testing.assert_close(sums.total, expected)


def test_a_frozen_head_gets_no_gradient_and_the_hidden_states_the_same():
    step = make_step()
    _, expected, _ = ours(ForwardKL(), step)
    frozen = replace(step, student_weight=step.student_weight.detach())
    ForwardKL()(frozen).total.backward()
    torch.testing.assert_close(step.student_hidden.grad, expected)
    only_head = replace(step, student_hidden=step.student_hidden.detach())
    ForwardKL()(only_head).total.backward()
    torch.testing.assert_close(step.student_weight.grad, ours(ForwardKL(), step)[2])


def test_tied_embeddings_add_both_gradients():
    step = make_step()

    def tied(run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        table = step.student_weight.detach().clone().requires_grad_()
        inputs = torch.arange(N) % V
        run(table[inputs].tanh(), table).backward()
        return table.grad

    def naive(hidden: Tensor, weight: Tensor) -> Tensor:
        logp = (hidden @ weight[:VALID].T).log_softmax(-1)
        teacher = (step.teachers[0][0] @ step.teachers[0][1][:VALID].T).log_softmax(-1)
        return ForwardKL().per_token(logp, teacher).sum()

    chunked = tied(
        lambda h, w: ForwardKL()(replace(step, student_hidden=h, student_weight=w)).total
    )
    torch.testing.assert_close(chunked, tied(naive))


@objectives
@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_inputs_are_computed_in_float32(objective, autocast):
    step = replace(make_step(dtype=torch.bfloat16), reduction=Reduction(0.5, chunk_tokens=9))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        total, hidden, weight = ours(objective, step)
    expected, expected_hidden, expected_weight = full_logits(objective, step)
    assert total.dtype == torch.float32
    assert hidden.dtype == weight.dtype == torch.bfloat16
    torch.testing.assert_close(total.double(), expected, rtol=1e-5, atol=0)
    for mine, naive in ((hidden, expected_hidden), (weight, expected_weight)):
        # What is handed back is rounded once to bf16: 2^-9 of each entry.
        torch.testing.assert_close(mine.double(), naive, rtol=2**-8, atol=1e-4)


def test_autocast_does_not_round_float32():
    step = make_step(dtype=torch.float32)
    plain = ours(ReverseKL(), step)
    with torch.autocast("cpu", torch.bfloat16):
        under = ours(ReverseKL(), step)
    assert all(torch.equal(a, b) for a, b in zip(plain, under, strict=True))


def test_mixed_types_of_hidden_states_and_head():
    step = make_step(dtype=torch.float32)
    low = replace(step, student_hidden=step.student_hidden.detach().bfloat16().requires_grad_())
    total, hidden, weight = ours(ForwardKL(), low)
    assert (hidden.dtype, weight.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(total.double(), full_logits(ForwardKL(), low)[0], rtol=1e-5, atol=0)


@objectives
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_enormous_logits_stay_finite(objective, dtype):
    step = make_step(dtype=dtype)
    hidden = (step.student_hidden.detach() * 3000).requires_grad_()
    teachers = [(h * 3000, w) for h, w in step.teachers]
    step = replace(step, student_hidden=hidden, teachers=teachers, reduction=Reduction(0.5))
    assert (hidden.float() @ step.student_weight.float().T).abs().max() > 1e4
    for tensor in ours(objective, step):
        assert torch.isfinite(tensor).all()


def test_not_a_number_is_refused_without_a_record_index():
    step = make_step()
    hidden = step.student_hidden.detach().clone()
    hidden[3] = torch.nan
    bad = replace(step, student_hidden=hidden.requires_grad_(), record_index=None)
    with pytest.raises(NonFiniteLossError, match="not a number") as raised:
        ForwardKL()(bad)
    assert raised.value.rows == [3]
    assert raised.value.records == []


def test_cross_entropy_needs_no_teacher():
    step = replace(make_step(), teachers=())
    sums = cross_entropy(step)
    sums.total.backward()
    expected, hidden, weight = full_logits(
        ForwardKL(), replace(step, reduction=Reduction(kd_ratio=0))
    )
    torch.testing.assert_close(sums.total.detach(), expected)
    torch.testing.assert_close(sums.ce_sum, expected)
    assert sums.kd_sum.item() == 0
    torch.testing.assert_close(step.student_hidden.grad, hidden)
    torch.testing.assert_close(step.student_weight.grad, weight)


def test_a_second_backward_is_refused():
    total = ForwardKL()(make_step()).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="gives gradients once"):
        total.backward()


def test_no_tensor_of_tokens_by_vocabulary_is_made(monkeypatch):
    sizes: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(
                t.numel() for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, Tensor)
            )
            return out

    step = replace(make_step(n=400), reduction=Reduction(0.5, 2.0, chunk_tokens=10))
    with Watch():
        ours(JensenShannon(0.5), step)
    assert max(sizes) <= max(400 * 8, V * 10)
    assert max(sizes) < 400 * VALID


def test_objectives_with_trainable_parameters_are_refused():
    class Trainable(ForwardKL):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

    with pytest.raises(ValueError, match="trainable parameters"):
        Trainable()(make_step())


def test_a_teacher_is_needed_only_above_kd_ratio_zero():
    alone = replace(make_step(), teachers=())
    with pytest.raises(ValueError, match="teacher"):
        ForwardKL()(alone)
    assert ForwardKL()(replace(alone, reduction=Reduction(kd_ratio=0))).terms == {}


@pytest.mark.parametrize(
    "change",
    [
        {"targets": torch.zeros(3, dtype=torch.int64)},
        {"extras": {"old_logp": torch.zeros(3)}},
        {"record_index": torch.zeros(3)},
        {"vocabulary_size": V + 1},
        {"vocabulary_size": None},
        {"teachers": [(torch.zeros(3, 6), torch.zeros(V, 6))]},
        {"teachers": [(torch.zeros(N, 6), torch.zeros(V, 5))]},
    ],
    ids=str,
)
def test_shapes_that_disagree_are_refused(change):
    with pytest.raises(ValueError, match=r"shape|rows|hidden"):
        replace(make_step(), **change)


@pytest.mark.parametrize(
    "options",
    [{"kd_ratio": 1.1}, {"kd_ratio": -0.1}, {"temperature": 0}, {"chunk_tokens": 0}],
    ids=str,
)
def test_options_out_of_range_are_user_errors(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Reduction(**options)
