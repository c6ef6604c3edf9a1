"""Which runs can have a cache, and what a fragment of it builds."""

import pytest

from common.errors import UserError
from kdmodules.losses import (
    ForwardKL,
    JensenShannon,
    KDLoss,
    Reduction,
    ReverseKL,
    SkewReverseKL,
    TeacherTopK,
)
from kdmodules.responses import (
    AdaptiveReplay,
    BufferedResponses,
    DatasetResponses,
    MixedResponses,
    ResponseSource,
    StudentResponses,
    TeacherMixedRollouts,
    TeacherResponses,
)
from kdmodules.teacher_cache import TeacherCache, check_cache_options
from tests.kdmodules.student_runs import make_student


@pytest.mark.parametrize(
    "source",
    [
        *(AdaptiveReplay(), BufferedResponses(), MixedResponses(), MixedResponses(coin="record")),
        *(StudentResponses(), TeacherMixedRollouts()),
    ],
)
def test_text_that_is_not_fixed_is_refused_at_the_start(source: ResponseSource) -> None:
    with pytest.raises(UserError, match=f"cannot serve {type(source).__name__}"):
        make_student("teacher", source, cache=TeacherCache())
    make_student("teacher", source)


@pytest.mark.parametrize(
    ("objective", "reduction", "teachers", "reason"),
    [
        (ReverseKL(), Reduction(), ["a"], "ReverseKL"),
        (JensenShannon(1), Reduction(), ["a"], "JensenShannon"),
        (TeacherTopK(ForwardKL(), 65), Reduction(), ["a"], "k 65, of which it keeps 64"),
        (ForwardKL(), Reduction(temperature=2.0), ["a"], "temperature 2.0"),
        (ForwardKL(), Reduction(), ["a", "b"], "2 teachers"),
    ],
)
def test_what_the_likeliest_tokens_cannot_serve(
    objective: KDLoss, reduction: Reduction, teachers: list[str], reason: str
) -> None:
    parts = (DatasetResponses(), objective, reduction, teachers)
    with pytest.raises(UserError, match=reason):
        check_cache_options(TeacherCache(kind="top_k"), *parts)
    check_cache_options(TeacherCache(), *parts)
    check_cache_options(None, *parts)


def test_what_they_can_serve() -> None:
    for objective in (JensenShannon(0.1), TeacherTopK(ForwardKL(), 64), SkewReverseKL(0.1)):
        parts = (DatasetResponses(), objective, Reduction(), ["a"])
        check_cache_options(TeacherCache(kind="top_k"), *parts)
    with pytest.raises(UserError, match="k is 0"):
        TeacherCache(kind="top_k", k=0)


@pytest.mark.parametrize("source", [DatasetResponses(), TeacherResponses()])
def test_fixed_text_is_taken(source: ResponseSource) -> None:
    assert make_student("teacher", source, cache=TeacherCache("x")).teacher_cache is not None
