"""The ways of computing one KD objective that `benchmarks.distillation` compares.

The published forms are written from their formulas: full logits of every position, float32
softmaxes, masks by multiplication. Each takes the same hidden states and heads and returns a mean
over scored tokens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from kdmodules.losses import (
    ForwardKL,
    JensenShannon,
    KDLoss,
    KDStep,
    Reduction,
    SkewReverseKL,
)

SKEW = 0.1
BETA = 0.1


@dataclass(frozen=True)
class Setting:
    """Shape of one micro-batch.

    Attributes:
        batch: Records.
        tokens: Positions per record.
        vocabulary: Rows of both heads.
        student_width: Width of the student's hidden states.
        teacher_width: Width of the teacher's.
        scored: Share of positions that are scored.
    """

    batch: int
    tokens: int
    vocabulary: int
    student_width: int
    teacher_width: int
    scored: float


class Case:
    """One micro-batch's hidden states, heads and mask, from seed 0.

    Args:
        setting: Its shape.
        device: Where it lies.
        dtype: Of states and heads.
    """

    def __init__(
        self, setting: Setting, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device, dtype)

        positions = (setting.batch, setting.tokens)
        self.hidden = normal(*positions, setting.student_width).requires_grad_()
        self.weight = normal(setting.vocabulary, setting.student_width)
        self.weight.mul_(3 * setting.student_width**-0.5).requires_grad_()
        self.teacher_hidden = normal(*positions, setting.teacher_width)
        self.teacher_weight = normal(setting.vocabulary, setting.teacher_width)
        self.teacher_weight.mul_(3 * setting.teacher_width**-0.5)
        targets = torch.randint(0, setting.vocabulary, positions, generator=generator)
        self.targets = targets.to(device)
        # The tail of every record, as responses are.
        first = round(setting.tokens * (1 - setting.scored))
        self.mask = (torch.arange(setting.tokens, device=device) >= first).expand(positions)

    def logits(self) -> tuple[Tensor, Tensor]:
        """Student's and teacher's logits of every position, [B, T, V]."""
        with torch.no_grad():
            teacher = self.teacher_hidden @ self.teacher_weight.t()
        return self.hidden @ self.weight.t(), teacher

    def masked_mean(self, per_position: Tensor) -> Tensor:
        """Mean of [B, T] values over the scored positions."""
        return (per_position * self.mask).sum() / self.mask.sum()


def head_products(case: Case) -> Tensor:
    """The floor: both heads and the two products of the backward, no softmax."""
    student, teacher = case.logits()
    return (student * teacher).mean()


def published_forward_kl(case: Case) -> Tensor:
    """DistiLLM's forward KL without the teacher's entropy, which has no gradient."""
    student, teacher = case.logits()
    probability = teacher.softmax(-1, dtype=torch.float32)
    product = probability * student.log_softmax(-1, dtype=torch.float32)
    return case.masked_mean(-product.masked_fill(student.isinf(), 0).sum(-1))


def _published_mixed(case: Case, student_share: float, both: bool) -> Tensor:
    student, teacher = case.logits()
    p, q = (t.softmax(-1, dtype=torch.float32) for t in (teacher, student))
    mixed = ((1 - student_share) * p + student_share * q).log()
    infinite = student.isinf() | teacher.isinf()

    def divergence(probability: Tensor, logits: Tensor) -> Tensor:
        logp = logits.log_softmax(-1, dtype=torch.float32)
        inner = (probability * mixed).masked_fill(infinite, 0)
        inner = inner - (probability * logp).masked_fill(infinite, 0)
        return case.masked_mean(-inner.sum(-1))

    if not both:
        return divergence(q, student)
    return student_share * divergence(q, student) + (1 - student_share) * divergence(p, teacher)


def published_skew_reverse_kl(case: Case) -> Tensor:
    """DistiLLM's skew reverse KL: the log of a sum of probabilities."""
    return _published_mixed(case, SKEW, both=False)


def published_js(case: Case) -> Tensor:
    """DistiLLM's Jensen-Shannon distance, whose weight is the student's."""
    return _published_mixed(case, 1 - BETA, both=True)


def trl_js(case: Case) -> Tensor:
    """TRL's generalised JSD: divided logits, logsumexp of a stack, two kl_div, a mask."""
    temperature = 1.0
    student, teacher = ((logits / temperature).log_softmax(-1) for logits in case.logits())
    stacked = torch.stack([student + math.log(1 - BETA), teacher + math.log(BETA)])
    mixed = stacked.logsumexp(0)
    from_teacher = kl_div(mixed, teacher, reduction="none", log_target=True)
    from_student = kl_div(mixed, student, reduction="none", log_target=True)
    per_token = BETA * from_teacher + (1 - BETA) * from_student
    return per_token[case.mask].sum() / case.mask.sum()


def liger_js(case: Case) -> Tensor:
    """Liger's fused linear JSD, at beta 0.5, where every release's convention is the same."""
    loss = import_module("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.5, compiled=False
    )
    rows = case.mask
    return loss(
        case.hidden[rows],
        case.weight,
        case.teacher_hidden[rows],
        case.teacher_weight,
        case.targets[rows],
        None,
        None,
    )


def liger_triton_js(case: Case) -> Tensor:
    """Liger's generalised JSD in one Triton kernel, at beta 0.5, where conventions agree."""
    loss = import_module("liger_kernel.transformers").LigerFusedLinearJSD(jsd_beta=0.5)
    rows = case.mask
    return loss(case.hidden[rows], case.weight, case.teacher_hidden[rows], case.teacher_weight)


class AutogradOnly(KDLoss):
    """An objective without its closed form, as a user's own first draft would be."""

    def __init__(self, objective: KDLoss) -> None:
        super().__init__()
        self.objective = objective

    def per_token(self, student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
        """The wrapped objective's values."""
        return self.objective.per_token(student_logp, teacher_logp)


def ours(objective: KDLoss, chunk_tokens: int | None) -> Callable[[Case], Tensor]:
    """This project's reduction: scored rows gathered, then chunks with gradients in the forward."""

    def compute(case: Case) -> Tensor:
        step = KDStep(
            student_hidden=case.hidden[case.mask],
            student_weight=case.weight,
            targets=case.targets[case.mask],
            teachers=[(case.teacher_hidden[case.mask], case.teacher_weight)],
            reduction=Reduction(chunk_tokens=chunk_tokens),
        )
        sums = objective(step)
        return sums.total / sums.n_tokens

    return compute


@dataclass(frozen=True)
class Form:
    """One way of computing one objective.

    Attributes:
        objective: What is computed; forms of one objective have the same gradient.
        way: Whose form.
        compute: Case to loss.
        skipped: Why it cannot run here, or None.
    """

    objective: str
    way: str
    compute: Callable[[Case], Tensor]
    skipped: str | None = None

    @property
    def name(self) -> str:
        """Objective and way."""
        return f"{self.objective}: {self.way}"


def all_forms(chunk_tokens: int | None) -> list[Form]:
    """Every form, the floor first.

    Args:
        chunk_tokens: Chunk of this project's forms; None for its default.
    """
    jsd = JensenShannon(BETA)
    no_liger = None if find_spec("liger_kernel") else "liger_kernel is not installed"
    no_triton = no_liger or (None if torch.cuda.is_available() else "needs a GPU")
    return [
        Form("two head products", "floor", head_products),
        Form("forward_kl", "published", published_forward_kl),
        Form("forward_kl", "ours", ours(ForwardKL(), chunk_tokens)),
        Form("skew_reverse_kl", "published", published_skew_reverse_kl),
        Form("skew_reverse_kl", "ours", ours(SkewReverseKL(SKEW), chunk_tokens)),
        Form("js", "published", published_js),
        Form("js", "TRL", trl_js),
        Form("js", "ours", ours(jsd, chunk_tokens)),
        Form("js", "ours, autograd in the chunk", ours(AutogradOnly(jsd), chunk_tokens)),
        Form("js at 0.5", "ours", ours(JensenShannon(0.5), chunk_tokens)),
        Form("js at 0.5", "Liger", liger_js, skipped=no_liger),
        Form("js at 0.5", "Liger, Triton", liger_triton_js, skipped=no_triton),
    ]
