"""EZ, window votes and top-k loss against float64 loops, and where they are not defined."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audits.membership.attacks import EZ, WBC, Attack, InfoRMIA, TopKLoss
from audits.membership.measurements import OutsideTop, Scored
from audits.membership.plan import AuditPlan
from audits.membership.signals import Divergence
from audits.membership.stored_audit import load_view, save_view
from audits.membership.view import AuditView
from audits.scoring.statistics_file import StatisticsFile
from audits.scoring.token_statistics import StatisticsKey, TokenStatistics
from common.errors import UserError
from kdmodules.scoring import TokenScores, token_statistics
from tests.audits.membership.conftest import LENGTHS, Case, random_statistics, records, view_of

BASE = Scored(model="base")
WINDOWS = (2, 3, 4, 5, 8, 11, 15, 21, 29, 40)
Token = tuple[float, float, int, int]
"""Log-probability under the model and under the reference, and both ranks."""


def side_by_side(view: AuditView) -> list[list[Token]]:
    """The tokens of each record as the loops read them."""
    own, other = view.statistics, view.tokens(BASE)
    columns = (own.logp.double(), other.logp.double(), own.rank, other.rank)
    flat = list(zip(*(column.tolist() for column in columns), strict=True))
    bounds = own.offsets.tolist()
    return [flat[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]


def naive_ez(tokens: Sequence[Token], c: float = 0.1) -> float:
    shifts = [own - other for own, other, rank, theirs in tokens if rank > 0 or theirs > 0]
    rises = math.fsum(shift for shift in shifts if shift > 0)
    falls = math.fsum(-shift for shift in shifts if shift < 0)
    return math.log((rises + c) / (falls + c))


def naive_published_ez(tokens: Sequence[Token]) -> float:
    shifts = [own - other for own, other, rank, _ in tokens if rank > 0]
    if len(shifts) < 2:
        return 0.0
    rises = math.fsum(shift for shift in shifts if shift > 0)
    falls = math.fsum(-shift for shift in shifts if shift < 0)
    return rises / max(falls, 1e-6)


def naive_wbc(tokens: Sequence[Token], windows: Sequence[int] = WINDOWS) -> float:
    shifts = [own - other for own, other, _, _ in tokens]
    fitting = [size for size in windows if size <= len(shifts)] or [len(shifts)]
    shares = []
    for size in fitting:
        sums = [sum(shifts[i : i + size]) for i in range(len(shifts) - size + 1)]
        shares.append(sum(1.0 if one > 0 else 0.5 if one == 0 else 0.0 for one in sums) / len(sums))
    return math.fsum(shares) / len(shares)


@pytest.mark.parametrize(
    ("attack", "naive"),
    [
        (EZ(), naive_ez),
        (EZ(c=1.0), lambda tokens: naive_ez(tokens, 1.0)),
        (EZ(published=True), naive_published_ez),
        (WBC(), naive_wbc),
        (WBC(shortest=3, longest=12, lengths=3), lambda tokens: naive_wbc(tokens, (3, 6, 12))),
    ],
)
def test_scores_equal_the_float64_loop(
    case: Case, attack: Attack, naive: Callable[[Sequence[Token]], float]
) -> None:
    found = attack.score(replace(case.view, shard_records=3))
    expected = torch.tensor([naive(one) for one in side_by_side(case.view)], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def planted(own: Sequence[float], rank: Sequence[int], *lengths: int) -> TokenStatistics:
    """A table of given log-probabilities and ranks."""
    n = len(own)
    logp = torch.tensor(own, dtype=torch.float64)
    scores = TokenScores(logp, torch.zeros(n), torch.ones(n), torch.tensor(rank))
    ids = [f"record-{index}" for index in range(len(lengths))]
    return TokenStatistics.from_batch(ids, torch.tensor(lengths), scores)


def test_informia_is_the_mean_information_of_the_tokens() -> None:
    lengths, size = (4, 1, 9), 30
    generator = torch.Generator().manual_seed(6)
    logits = 2 * torch.randn(2, sum(lengths), size, generator=generator, dtype=torch.float64)
    targets = torch.randint(size, (sum(lengths),), generator=generator)
    ids = [f"record-{index}" for index in range(len(lengths))]
    own, base = (
        TokenStatistics.from_batch(
            ids, torch.tensor(lengths), token_statistics(one, torch.eye(size).double(), targets)
        )
        for one in logits
    )
    rows = [[log_softmax(row) for row in one.tolist()] for one in logits]
    told = []  # log-ratio of each token, and the mean of those of all tokens under the reference
    for true, mine, other in zip(targets.tolist(), *rows, strict=True):
        ratios = [a - b for a, b in zip(mine, other, strict=True)]
        mean = math.fsum(math.exp(b) * ratio for b, ratio in zip(other, ratios, strict=True))
        told.append((ratios[true], mean))
    bounds = own.offsets.tolist()
    parts = [told[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]
    divergence = torch.tensor([[-math.fsum(mean for _, mean in part)] for part in parts])
    view = replace(
        view_of(records(lengths), own, base=base), signals={Divergence(): divergence.double()}
    )
    expected = [math.fsum(rise - mean for rise, mean in part) / len(part) for part in parts]
    torch.testing.assert_close(
        InfoRMIA().score(view), torch.tensor(expected).double(), rtol=1e-6, atol=1e-6
    )
    assert {one.model for one in InfoRMIA().requires} == {"audited", "base"}


def log_softmax(row: Sequence[float]) -> list[float]:
    """The logits' log-probabilities."""
    normaliser = math.log(math.fsum(map(math.exp, row)))
    return [one - normaliser for one in row]


def test_ez_puts_a_record_without_errors_in_the_middle_and_the_published_form_last() -> None:
    # Known by heart; one error that rises; two that rise; two that fall.
    lengths = (2, 2, 2, 2)
    own = planted([-0.1] * 2 + [-0.1, -1] + [-1, -1] + [-3, -3], [0, 0, 0, 1, 2, 3, 4, 5], *lengths)
    base = planted([-0.2] * 2 + [-0.1, -2] + [-2, -2] + [-2, -2], [0] * 8, *lengths)
    view = view_of(records(lengths), own, base=base)
    known, one, both, falling = EZ().score(view).tolist()
    assert known == 0.0
    assert falling < known < one < both
    assert EZ(published=True).score(view).tolist() == [0.0, 0.0, 2 / 1e-6, 0.0]
    # What the reference alone misses has risen since.
    missed = replace(base, rank=torch.ones(8, dtype=torch.int64))
    assert EZ().score(view_of(records(lengths), own, base=missed))[0] > 0


def test_ez_of_a_token_that_neither_rises_nor_falls_is_the_middle() -> None:
    """Single tokens: one that is missed and did not move, one that rose, one that fell."""
    own = planted([-2.0, -1.0, -3.0], [4, 4, 4], 1, 1, 1)
    base = planted([-2.0, -2.0, -2.0], [4, 4, 4], 1, 1, 1)
    found = EZ().score(view_of(records((1, 1, 1)), own, base=base)).tolist()
    assert found == [0.0, pytest.approx(math.log(11)), pytest.approx(-math.log(11))]


def test_wbc_counts_ties_half_and_takes_a_short_record_as_one_window() -> None:
    lengths = (1, 1, 1, 3)
    own = planted([-1, -1, -1, -1, -1, -1], [0] * 6, *lengths)
    base = planted([-2, -1, -0.5, -2, 0, -1], [0] * 6, *lengths)
    # Of three tokens that rise by 1, -1 and 0, windows of two sum to 0 and -1, that of three to 0.
    found = WBC().score(view_of(records(lengths), own, base=base))
    assert found.tolist() == [1.0, 0.5, 0.0, (0.25 + 0.5) / 2]


@pytest.mark.parametrize("attack", [EZ(), WBC(), InfoRMIA()])
def test_a_reference_with_another_tokenizer_is_refused(case: Case, attack: Attack) -> None:
    other = random_statistics(seed=2, lengths=tuple(length + 3 for length in LENGTHS))
    keyed = replace(case.view.statistics, key=StatisticsKey("m", "ours", "r"))
    theirs = replace(other, key=StatisticsKey("m", "theirs", "r"))
    with pytest.raises(UserError, match=f"attack {attack.name} .*'base' has another tokenizer"):
        attack.score(view_of(case.view.records, keyed, base=theirs))
    with pytest.raises(ValueError, match="other tokens"):
        attack.score(view_of(case.view.records, case.view.statistics, base=other))


def top_k_view(lengths: tuple[int, ...], vocabulary: int) -> tuple[AuditView, list[list[float]]]:
    """A view with what is left outside the likeliest tokens, and the logits of each token."""
    generator = torch.Generator().manual_seed(4)
    n = sum(lengths)
    logits = 4 * torch.randn(n, vocabulary, generator=generator, dtype=torch.float64)
    logits[0] = 0.0  # all are as likely as the k-th
    targets = torch.randint(vocabulary, (n,), generator=generator)
    targets[1] = logits[1].argmin()
    targets[2] = logits[2].argmax()
    if n > 3:
        logits[3, 0] += 200.0  # nothing but the floor is left
        targets[3] = 1
    scores = token_statistics(
        logits, torch.eye(vocabulary, dtype=torch.float64), targets, outside_top=True
    )
    ids = [f"record-{index}" for index in range(len(lengths))]
    own = TokenStatistics.from_batch(ids, torch.tensor(lengths), scores, token_ids=targets)
    return AuditView(records(lengths), {Scored(): own}), logits.tolist()


def naive_top_k(logits: Sequence[float], target: int, k: int) -> float:
    normaliser = math.log(math.fsum(math.exp(one) for one in logits))
    likeliest = sorted((math.exp(one - normaliser) for one in logits), reverse=True)[:k]
    if sum(one > logits[target] for one in logits) < k:
        return logits[target] - normaliser
    return math.log(max(1 - math.fsum(likeliest), 1e-6) / (len(logits) - k))


@pytest.mark.parametrize("k", [5, 20])
@pytest.mark.parametrize(("lengths", "vocabulary"), [((5, 1, 40, 2), 300), ((2, 1, 1), 12)])
def test_top_k_loss_equals_the_float64_loop(
    lengths: tuple[int, ...], vocabulary: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slices of the vocabulary are narrower than k in their last one.
    monkeypatch.setattr("kdmodules.scoring._MIN_SLICE_TOKENS", 7)
    monkeypatch.setattr("kdmodules.scoring._CPU_TILE_ELEMENTS", 7 * 48)
    view, logits = top_k_view(lengths, vocabulary)
    own = view.statistics
    assert own.token_ids is not None
    values = [
        naive_top_k(row, target, k)
        for row, target in zip(logits, own.token_ids.tolist(), strict=True)
    ]
    bounds = own.offsets.tolist()
    expected = [
        math.fsum(values[start:stop]) / (stop - start)
        for start, stop in zip(bounds, bounds[1:], strict=False)
    ]
    attack = TopKLoss(k)
    torch.testing.assert_close(
        attack.score(view), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )
    assert attack.diagnostics(view) == {"outside_top": float((own.rank >= k).double().mean())}


def test_what_is_left_is_asked_for_by_its_attack_alone() -> None:
    plan = AuditPlan.of([TopKLoss(5), EZ()])
    assert plan.outside_top
    assert plan.passes == 2  # the audited model's and the reference's
    assert not AuditPlan.of([EZ(), WBC()]).outside_top
    assert OutsideTop() in TopKLoss().requires


def test_statistics_of_another_audit_say_that_they_lack_it(case: Case) -> None:
    with pytest.raises(UserError, match="top_k_loss .* these statistics lack it"):
        TopKLoss().score(case.view)


def test_stored_statistics_keep_what_is_left(tmp_path: Path) -> None:
    view, _ = top_k_view((5, 1, 40, 2), 300)
    own = replace(view.statistics, key=StatisticsKey("m", "t", "r"))
    save_view(replace(view, passes={Scored(): own}), [one.id for one in view.records], tmp_path)
    again, _ = load_view(tmp_path, AuditPlan.of([TopKLoss()]))
    assert torch.equal(TopKLoss().score(again), TopKLoss().score(view))
    table = again.table(Scored())
    assert isinstance(table, StatisticsFile)
    assert table.has_outside_top


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="k is 7: choose 5 or 20"):
        TopKLoss(7)
    with pytest.raises(UserError, match="c is 0"):
        EZ(c=0)
    with pytest.raises(UserError, match="longest is 1"):
        WBC(longest=1)
    with pytest.raises(UserError, match="lengths is 1"):
        WBC(lengths=1)
