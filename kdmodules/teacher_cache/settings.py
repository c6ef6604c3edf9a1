"""What a cached teacher is, and which runs can have one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from common.errors import UserError
from common.options import require_at_least
from kdmodules.losses import KDLoss, Reduction, TeacherTopK
from kdmodules.responses import ResponseSource


@dataclass(frozen=True)
class TeacherCache:
    """The teachers' part of a distillation, computed once and kept on disk.

    Attributes:
        folder: Where it is kept; the run's private folder if not given. Runs that share a folder
            share what they have in common. It tells of private records as the teacher does.
        kind: full keeps the last hidden states and the head, from which every objective is exact;
            top_k the likeliest tokens of one teacher and what is left for the others.
        dtype: Of the hidden states of full. bfloat16 halves them, with a relative error of at most
            2^-8 in each.
        k: Tokens that top_k keeps at a position.

    Raises:
        UserError: If k is below 1.
    """

    folder: str | None = None
    kind: Literal["full", "top_k"] = "full"
    dtype: Literal["float32", "bfloat16"] = "float32"
    k: int = 64

    def __post_init__(self) -> None:
        require_at_least(1, "model.teacher_cache.", k=self.k)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Type of the stored hidden states."""
        return torch.float32 if self.dtype == "float32" else torch.bfloat16

    @property
    def contents(self) -> list[str | int]:
        """Those options that decide what is stored."""
        return [self.kind, self.dtype if self.kind == "full" else self.k]


def check_cache_options(
    cache: TeacherCache | None,
    responses: ResponseSource,
    objective: KDLoss,
    reduction: Reduction,
    teachers: Sequence[str],
) -> None:
    """Refuses a cache from which the run cannot be taught.

    Raises:
        UserError: If the responses are written while the student trains, or if only the likeliest
            tokens are kept and the objective, the temperature or the ensemble needs more.
    """
    if cache is None:
        return
    check_fixed_text(type(responses))
    if cache.kind == "full":
        return
    found = _beyond_top_k(cache, objective, reduction, teachers)
    if found is not None:
        raise UserError(f"model.teacher_cache.kind top_k cannot serve {found}: take full")


def check_fixed_text(source: type[ResponseSource]) -> None:
    """Refuses a cache for text that is not there before training.

    Raises:
        UserError: If the responses are written while the student trains.
    """
    if not source.fixed_text:
        raise UserError(
            f"model.teacher_cache cannot serve {source.__name__}, whose text is written "
            "while the student trains: leave it out, or take DatasetResponses or TeacherResponses"
        )


def _beyond_top_k(
    cache: TeacherCache, objective: KDLoss, reduction: Reduction, teachers: Sequence[str]
) -> str | None:
    """Returns what has no bound under the likeliest tokens alone."""
    if objective.needs_teacher_support:
        return (
            f"{type(objective).__name__}, whose value at tokens that the teacher finds unlikely "
            "has no bound"
        )
    if isinstance(objective, TeacherTopK) and objective.k > cache.k:
        return f"TeacherTopK with k {objective.k}, of which it keeps {cache.k} tokens"
    if reduction.temperature != 1:
        return f"model.reduction.temperature {reduction.temperature}, at which the rest weighs more"
    if len(teachers) != 1:
        return f"{len(teachers)} teachers"
    return None
