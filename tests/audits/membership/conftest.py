"""A ragged audit view with its numbers also as plain lists, for naive references."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from numpy.typing import ArrayLike

from audits.membership.measurements import Scored
from audits.membership.view import AuditView
from audits.scoring.token_statistics import TokenStatistics
from datamodules.records import TASKS, InstructionRecord
from kdmodules.scoring import TokenScores, token_statistics

LENGTHS = (5, 1, 512, 2, 33, 10, 7, 100)
RESPONSES = (
    "Plain words, plain words, plain words.",
    "Å",
    "A long answer. " * 200,
    "naïve café 🙂🙃",
    "数字は 3.14 です。",
    "line one\nline two",
    "a",
    "The quick brown fox jumps over the lazy dog.",
)


@dataclass(frozen=True)
class Case:
    """A view, and per record the responses and lists of (logp, mean, variance)."""

    view: AuditView
    tokens: list[list[tuple[float, float, float]]]


def random_statistics(seed: int, lengths: tuple[int, ...] = LENGTHS) -> TokenStatistics:
    """Statistics of a random tiny head on random hidden states."""
    generator = torch.Generator().manual_seed(seed)
    n_tokens = sum(lengths)
    scores = token_statistics(
        torch.randn(n_tokens, 8, generator=generator),
        torch.randn(97, 8, generator=generator),
        torch.randint(97, (n_tokens,), generator=generator),
    )
    ids = [f"record-{index}" for index in range(len(lengths))]
    return TokenStatistics.from_batch(ids, torch.tensor(lengths), scores)


def as_lists(statistics: TokenStatistics) -> list[list[tuple[float, float, float]]]:
    """The table as one list of (logp, mean, variance) per record."""
    columns = (statistics.logp, statistics.mean, statistics.variance)
    flat = list(zip(*(column.double().tolist() for column in columns), strict=True))
    bounds = statistics.offsets.tolist()
    return [flat[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]


def records(lengths: tuple[int, ...] = LENGTHS) -> list[InstructionRecord]:
    """Records to go with :func:`random_statistics`."""
    return [
        InstructionRecord(f"record-{i}", "Say it.", "", RESPONSES[i], TASKS[i % 7], f"test:{i}")
        for i in range(len(lengths))
    ]


def empty_scores() -> TokenScores:
    """No tokens."""
    return TokenScores(torch.empty(0), torch.empty(0), torch.empty(0), torch.empty(0).long())


def view_of(
    audited: Sequence[InstructionRecord], own: TokenStatistics, **references: TokenStatistics
) -> AuditView:
    """A view of the records' own text under the audited model and under reference models."""
    passes = {Scored(): own, **{Scored(model=name): t for name, t in references.items()}}
    return AuditView(audited, passes)


def planted_confidences(
    logits: ArrayLike, audited: Sequence[InstructionRecord] | None = None
) -> TokenStatistics:
    """One token per record with the given logit-scaled confidence."""
    logp = torch.nn.functional.logsigmoid(torch.as_tensor(logits, dtype=torch.float64))
    n = len(logp)
    ids = [str(i) for i in range(n)] if audited is None else [one.id for one in audited]
    scores = TokenScores(logp, -torch.ones(n), torch.ones(n), torch.zeros(n, dtype=torch.int64))
    return TokenStatistics.from_batch(ids, torch.ones(n).long(), scores)


def with_own(view: AuditView, own: TokenStatistics) -> AuditView:
    """The same view with other statistics of the audited model."""
    return replace(view, passes={**view.passes, Scored(): own})


@pytest.fixture
def case() -> Case:
    statistics = random_statistics(seed=0)
    view = view_of(records(), statistics, base=random_statistics(seed=1))
    return Case(view, as_lists(statistics))
