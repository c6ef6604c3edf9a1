"""Token statistics against a float64 loop over tokens and vocabulary."""

import math

import pytest
import torch
from torch import Tensor

from kdmodules.scoring import TokenScores, UndefinedScoreError, token_statistics

VOCABULARY, WIDTH = 5003, 24


def naive(logits: list[list[float]], targets: list[int]) -> TokenScores:
    """The definitions, one token and one vocabulary entry at a time."""
    columns: list[tuple[float, float, float, int]] = []
    for row, target in zip(logits, targets, strict=True):
        top = max(row)
        normaliser = top + math.log(math.fsum(math.exp(z - top) for z in row))
        weighted = [(math.exp(z - normaliser), z - normaliser) for z in row if z > -math.inf]
        mean = math.fsum(q * logq for q, logq in weighted)
        variance = math.fsum(q * (logq - mean) ** 2 for q, logq in weighted)
        columns.append(
            (row[target] - normaliser, mean, variance, sum(z > row[target] for z in row))
        )
    table = torch.tensor(columns, dtype=torch.float64)
    return TokenScores(table[:, 0], table[:, 1], table[:, 2], table[:, 3].long())


def exact_logits(hidden: Tensor, weight: Tensor) -> list[list[float]]:
    return (hidden.double() @ weight.double().t()).tolist()


def assert_close(found: TokenScores, expected: TokenScores, atol: float = 1e-5) -> None:
    for name in ("logp", "mean", "variance"):
        value = getattr(found, name).double()
        torch.testing.assert_close(value, getattr(expected, name), rtol=1e-5, atol=atol)


@pytest.fixture(scope="module")
def case() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, WIDTH, generator=generator)
    weight = 0.6 * torch.randn(VOCABULARY, WIDTH, generator=generator)
    targets = torch.randint(VOCABULARY, (37,), generator=generator)
    hidden[1] *= 8  # a peaked distribution
    hidden[2] *= 0.01  # a flat one
    targets[1] = (hidden[1] @ weight.t()).argmax()
    targets[3], targets[4] = 0, VOCABULARY - 1
    return hidden, weight, targets


def test_statistics_equal_the_float64_loop(case: tuple[Tensor, Tensor, Tensor]) -> None:
    hidden, weight, targets = case
    found = token_statistics(*case)
    expected = naive(exact_logits(hidden, weight), targets.tolist())
    assert_close(found, expected)
    assert found.rank.tolist() == expected.rank.tolist()
    assert found.rank[1] == 0
    assert found.logp.dtype == torch.float32
    assert found.rank.dtype == torch.int64
    torch.testing.assert_close(found.entropy.double(), -expected.mean, rtol=1e-5, atol=1e-5)


def test_float64_stays_float64(case: tuple[Tensor, Tensor, Tensor]) -> None:
    hidden, weight, targets = case
    found = token_statistics(hidden.double(), weight.double(), targets)
    assert found.logp.dtype == torch.float64
    assert_close(found, naive(exact_logits(hidden, weight), targets.tolist()), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(case: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype) -> None:
    hidden, weight, targets = case[0].to(dtype), case[1].to(dtype), case[2]
    found = token_statistics(hidden, weight, targets)
    assert found.logp.dtype == torch.float32
    assert_close(found, naive(exact_logits(hidden, weight), targets.tolist()))


@pytest.mark.parametrize("n_tokens", [1, 512, 700])
def test_one_token_and_long_responses(n_tokens: int) -> None:
    generator = torch.Generator().manual_seed(n_tokens)
    hidden = torch.randn(n_tokens, 8, generator=generator)
    weight = torch.randn(301, 8, generator=generator)
    targets = torch.randint(301, (n_tokens,), generator=generator)
    found = token_statistics(hidden, weight, targets)
    expected = naive(exact_logits(hidden, weight), targets.tolist())
    assert_close(found, expected)
    assert found.rank.tolist() == expected.rank.tolist()


@pytest.mark.parametrize("chunk_tokens", [1, 3, 36, 37, 512, 4096])
def test_chunks_change_nothing(
    case: tuple[Tensor, Tensor, Tensor], chunk_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = token_statistics(case[0].double(), case[1].double(), case[2])
    monkeypatch.setattr("kdmodules.scoring._CPU_TILE_ELEMENTS", 37 * 300)  # 17 vocabulary slices
    found = token_statistics(*case, chunk_tokens=chunk_tokens)
    assert_close(found, expected)
    assert torch.equal(found.rank, expected.rank)


def test_order_changes_nothing(case: tuple[Tensor, Tensor, Tensor]) -> None:
    hidden, weight, targets = case
    order = torch.randperm(37, generator=torch.Generator().manual_seed(1))
    straight, shuffled = (
        token_statistics(*case),
        token_statistics(hidden[order], weight, targets[order]),
    )
    torch.testing.assert_close(shuffled.logp, straight.logp[order], rtol=0, atol=1e-5)
    assert torch.equal(shuffled.rank, straight.rank[order])


@pytest.mark.parametrize("slice_tokens", [256, 1 << 19])
def test_tokens_of_probability_zero_add_nothing(
    slice_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdmodules.scoring._CPU_TILE_ELEMENTS", slice_tokens)
    logits = torch.randn(900, generator=torch.Generator().manual_seed(2))
    logits[::3] = -math.inf
    logits[256:512] = -math.inf  # a whole slice
    targets = torch.tensor([1, 0, 899])
    found = token_statistics(torch.ones(3, 1), logits[:, None], targets, chunk_tokens=1)
    expected = naive([logits.tolist()] * 3, targets.tolist())
    assert_close(found, expected)
    assert found.logp[1] == -math.inf
    assert found.rank.tolist() == expected.rank.tolist()


def test_huge_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdmodules.scoring._CPU_TILE_ELEMENTS", 256)
    generator = torch.Generator().manual_seed(3)
    logits = torch.empty(4, 1000).uniform_(-1e4, 1e4, generator=generator)
    logits[1] = 1e4  # uniform at a great height
    logits[2] = -1e4 + torch.rand(1000, generator=generator)
    targets = torch.tensor([5, 6, 7, int(logits[3].argmax())])
    found = token_statistics(torch.eye(4), logits.t(), targets)
    expected = naive(logits.double().tolist(), targets.tolist())
    assert_close(found, expected)
    assert found.rank.tolist() == expected.rank.tolist()


def test_variance_of_a_nearly_flat_distribution_does_not_cancel() -> None:
    logits = torch.zeros(50_000)
    logits[0] = 6.0
    logits[1:] += 1e-3 * torch.randn(49_999, generator=torch.Generator().manual_seed(4))
    found = token_statistics(torch.ones(1, 1), logits[:, None], torch.tensor([9]))
    expected = naive([logits.tolist()], [9])
    torch.testing.assert_close(found.variance.double(), expected.variance, rtol=1e-5, atol=0)


def test_ties_are_not_above() -> None:
    logits = torch.tensor([1.0, 2.0, 2.0, 2.0, 3.0, 0.0])
    found = token_statistics(torch.ones(6, 1), logits[:, None], torch.arange(6))
    assert found.rank.tolist() == [4, 1, 1, 1, 0, 5]


def test_the_true_token_is_never_above_itself() -> None:
    generator = torch.Generator().manual_seed(5)
    hidden = 10 * torch.randn(400, 300, generator=generator)
    weight = torch.randn(50, 300, generator=generator)
    best = (hidden @ weight.t()).argmax(dim=1)
    assert (token_statistics(hidden, weight, best).rank == 0).all()
    assert (token_statistics(hidden, weight, best).logp <= 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_undefined_logits_name_their_row(bad: float) -> None:
    hidden, weight = torch.ones(9, 2), torch.ones(5, 2)
    hidden[6, 1] = bad
    with pytest.raises(UndefinedScoreError, match="scored token 6 ") as caught:
        token_statistics(hidden, weight, torch.zeros(9, dtype=torch.int64), chunk_tokens=4)
    assert caught.value.row == 6


def test_a_distribution_without_any_token_is_undefined() -> None:
    with pytest.raises(UndefinedScoreError, match="scored token 0 "):
        token_statistics(torch.ones(1, 1), torch.full((5, 1), -math.inf), torch.tensor([0]))


def test_no_tokens() -> None:
    empty = torch.empty(0, dtype=torch.int64)
    assert len(token_statistics(torch.empty(0, 4), torch.ones(7, 4), empty)) == 0


def test_no_gradient_is_kept() -> None:
    weight = torch.ones(5, 2, requires_grad=True)
    hidden = torch.ones(3, 2, requires_grad=True)
    scores = token_statistics(hidden, weight, torch.zeros(3, dtype=torch.int64))
    assert not scores.logp.requires_grad


@pytest.mark.parametrize(
    ("hidden", "weight", "targets", "chunk_tokens"),
    [
        (torch.ones(3, 2), torch.ones(5, 4), torch.zeros(3, dtype=torch.int64), None),
        (torch.ones(3, 2), torch.ones(5, 2), torch.zeros(4, dtype=torch.int64), None),
        (torch.ones(3, 2), torch.ones(5, 2), torch.zeros(3), None),
        (torch.ones(3, 2), torch.ones(5, 2), torch.tensor([0, 5, 1]), None),
        (torch.ones(3, 2), torch.ones(5, 2), torch.tensor([0, -1, 1]), None),
        (torch.ones(3, 2), torch.ones(5, 2), torch.zeros(3, dtype=torch.int64), 0),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    hidden: Tensor, weight: Tensor, targets: Tensor, chunk_tokens: int | None
) -> None:
    with pytest.raises(ValueError, match=r"must"):
        token_statistics(hidden, weight, targets, chunk_tokens)
