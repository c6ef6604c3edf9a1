"""What an objective receives from a micro-batch, and what it hands back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from common.errors import UserError
from common.options import require_at_least, require_positive, require_share
from kdmodules.losses.top_k_rows import TopKRows
from kdmodules.models.head import Head, as_head

# Stands for -inf where a product with probability 0 must be 0; its exponential is exactly 0.
LOGP_FLOOR = -1e30

HeadRows = tuple[Tensor, Head | Tensor]
"""A teacher at a batch's scored tokens: hidden [N, Dt], its head or the weight alone [V', Dt]."""

TeacherRows = Sequence[HeadRows | TopKRows]
"""Each teacher at a batch's scored tokens, or its likeliest tokens there."""


@dataclass(frozen=True)
class Reduction:
    """How per-token values become one loss; the same for every objective.

    `L = (1 - kd_ratio) CE + kd_ratio D`. The temperature divides both models' logits before D and
    before D only: the cross-entropy is always taken at temperature 1.

    Attributes:
        kd_ratio: Weight of the objective, in [0, 1]; at 0 no teacher is needed.
        temperature: Positive; 1 leaves the distributions alone.
        rescale: Multiply D by temperature squared in the loss (Hinton et al. 2015, section 2.1),
            which keeps the size of its gradient. Reported sums are never rescaled.
        chunk_tokens: Scored tokens per chunk; None chooses by vocabulary and device.
        normalisation: What the loss of the global batch is a mean over. "token": its scored tokens,
            so that long responses count for more; TRL's GKD and the released code, which takes the
            mean of each device's. "sequence": its responses, each the mean over its own tokens, as
            GKD's paper defines it (Agarwal et al. 2024, section 3).

    Raises:
        UserError: A value is out of range.
    """

    kd_ratio: float = 1.0
    temperature: float = 1.0
    rescale: bool = False
    chunk_tokens: int | None = None
    normalisation: Literal["token", "sequence"] = "token"

    def __post_init__(self) -> None:
        require_share(kd_ratio=self.kd_ratio)
        require_positive(temperature=self.temperature)
        if self.chunk_tokens is not None:
            require_at_least(1, chunk_tokens=self.chunk_tokens)
        if self.normalisation not in ("token", "sequence"):
            raise UserError(f"normalisation is {self.normalisation!r}: choose token or sequence")

    @property
    def by_sequence(self) -> bool:
        """Whether the loss is a mean over sequences."""
        return self.normalisation == "sequence"

    @property
    def ce_weight(self) -> float:
        """Weight of the summed cross-entropy in the loss."""
        return 1 - self.kd_ratio

    @property
    def kd_weight(self) -> float:
        """Weight of the summed divergence in the loss."""
        return self.kd_ratio * (self.temperature**2 if self.rescale else 1.0)


@dataclass(frozen=True)
class KDStep:
    """The scored tokens of one micro-batch, before any head is applied.

    Attributes:
        student_hidden: [N, Ds] inputs of the student's head at the positions that predict a scored
            token.
        student_weight: The student's head, or its weight alone, [V, Ds]; may be frozen, tied or
            bf16.
        targets: [N] int64 scored tokens, below `vocabulary_size`.
        teachers: (hidden [N, Dt], head or weight [V', Dt]) of each teacher, or its likeliest
            tokens. Several form an ensemble: their probabilities are averaged. None of them
            receives a gradient.
        extras: Named [N] tensors that a response source left for the objective.
        record_index: [N] int64 record of each scored token, or None; names a record in an error,
            and tells the sequences apart where the loss is normalised by them.
        vocabulary_size: Rows of every head that are tokens; later rows are padding and get no
            probability and no gradient. None: all rows, which must then be equally many.
        progress: Fraction of training done, in [0, 1], for objectives with a schedule.
        reduction: Weights, temperature and chunk size.

    Raises:
        ValueError: Shapes disagree, or sequences are not told apart.
    """

    student_hidden: Tensor
    student_weight: Head | Tensor
    targets: Tensor
    teachers: TeacherRows = ()
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    record_index: Tensor | None = None
    vocabulary_size: int | None = None
    progress: float = 0.0
    reduction: Reduction = field(default_factory=Reduction)

    def __post_init__(self) -> None:
        self._check_head("student", self.student_hidden, self.student_weight)
        for index, teacher in enumerate(self.teachers):
            if isinstance(teacher, TopKRows):
                self._check_top_k(f"teacher {index}", teacher)
            else:
                self._check_head(f"teacher {index}", *teacher)
        named = {"targets": self.targets, **self.extras}
        if self.record_index is not None:
            named["record_index"] = self.record_index
        elif self.reduction.by_sequence:
            raise ValueError("normalisation by sequence needs record_index")
        for name, tensor in named.items():
            if tensor.shape != (self.n_tokens,):
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not ({self.n_tokens},)")

    def _check_head(self, name: str, hidden: Tensor, head: Head | Tensor) -> None:
        own = as_head(head)
        weight = hidden if own.weight is None else own.weight
        if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
            shapes = f"{tuple(hidden.shape)} and {tuple(weight.shape)}"
            raise ValueError(
                f"{name}: hidden and weight have shapes {shapes}, not [N, D] and [V, D]"
            )
        if hidden.shape[0] != self.n_tokens:
            raise ValueError(f"{name}: {hidden.shape[0]} hidden rows for {self.n_tokens} tokens")
        spare = own.size(hidden) - self.n_valid
        if spare < 0 or (spare and self.vocabulary_size is None):
            rows = own.size(hidden)
            raise ValueError(f"{name}: head of {rows} rows for {self.n_valid} tokens")

    def _check_top_k(self, name: str, rows: TopKRows) -> None:
        if (len(rows), rows.vocabulary_size) != (self.n_tokens, self.n_valid):
            raise ValueError(
                f"{name}: {len(rows)} rows of {rows.vocabulary_size} tokens, not {self.n_tokens} "
                f"of {self.n_valid}"
            )

    @property
    def n_tokens(self) -> int:
        """N, the number of scored tokens."""
        return self.student_hidden.shape[0]

    @property
    def token_weights(self) -> Tensor | None:
        """[N] one over the scored tokens of each token's record; None where every token is 1."""
        if not self.reduction.by_sequence or self.record_index is None:
            return None
        return 1.0 / torch.bincount(self.record_index)[self.record_index]

    @property
    def n_valid(self) -> int:
        """Rows of a head that are tokens."""
        return self.vocabulary_size or as_head(self.student_weight).size(self.student_hidden)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A few rows of log-probabilities, as the reduction shows them to an objective.

    Attributes:
        student_logp: [n, V] float32 or float64, at the step's temperature.
        teacher_logp: [n, V] the same of the teacher, or of the teachers' averaged probabilities.
        targets: [n] int64.
        extras: Named [n] tensors.
    """

    student_logp: Tensor
    teacher_logp: Tensor
    targets: Tensor
    extras: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over the scored tokens of one micro-batch, in nats; never means over it.

    Normalised by sequence, each token is weighed by one over the scored tokens of its record, so
    that the sums are over sequences.

    Attributes:
        total: Scalar `(1 - kd_ratio) ce_sum + kd_weight kd_sum`; the only one with a gradient.
        ce_sum: Scalar, cross-entropy at temperature 1.
        kd_sum: Scalar, the objective; 0 where kd_ratio is 0.
        terms: The parts of `kd_sum` by the objective's own names.
        n_tokens: N; divide by its sum over the global batch to have token means.
    """

    total: Tensor
    ce_sum: Tensor
    kd_sum: Tensor
    terms: Mapping[str, Tensor]
    n_tokens: int


class NonFiniteLossError(FloatingPointError):
    """A token's loss is infinite or not a number.

    Attributes:
        rows: Scored-token rows of the step, ascending.
        records: Their records by `KDStep.record_index`, once each, ascending; empty without one.
    """

    def __init__(self, values: Tensor, step: KDStep) -> None:
        bad = torch.nonzero(~torch.isfinite(values)).flatten()
        self.rows: list[int] = bad.tolist()
        self.records: list[int] = []
        if step.record_index is not None:
            self.records = torch.unique(
                step.record_index[bad.to(step.record_index.device)]
            ).tolist()
        kind = "not a number" if bool(torch.isnan(values).any()) else "infinite"
        super().__init__(
            f"loss is {kind} at scored tokens {self.rows[:8]} ({len(self.rows)} in all) of records "
            f"{self.records[:8]}: a probability is exactly 0 where the other model's is not, or "
            "the weights have diverged"
        )
