"""Every attack against a float64 loop over a record's tokens, and what all attacks share."""

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from audits.membership import attacks as package
from audits.membership.attacks import (
    Attack,
    Loss,
    MinK,
    MinKPlusPlus,
    Reference,
    ReleasedMinK,
    ReleasedMinKPlusPlus,
    Zlib,
)
from audits.membership.attacks.base import Access
from audits.membership.measurements import Scored
from audits.membership.view import AuditView
from audits.scoring.token_statistics import StatisticsKey, TokenStatistics
from common.errors import UserError
from tests.audits.membership.conftest import (
    LENGTHS,
    Case,
    as_lists,
    empty_scores,
    random_statistics,
    records,
    view_of,
    with_own,
)

BASE = Scored(model="base")

Tokens = list[tuple[float, float, float]]


def naive_loss(tokens: Tokens, text: str) -> float:
    return math.fsum(logp for logp, _, _ in tokens) / len(tokens)


def naive_zlib(tokens: Tokens, text: str) -> float:
    return naive_loss(tokens, text) / len(zlib.compress(text.encode()))


def naive_min_k(tokens: Tokens, text: str, k: float = 0.2) -> float:
    lowest = sorted(logp for logp, _, _ in tokens)[: max(1, math.ceil(k * len(tokens)))]
    return math.fsum(lowest) / len(lowest)


def naive_min_k_plus_plus(tokens: Tokens, text: str, k: float = 0.2) -> float:
    z = sorted((logp - mean) / max(math.sqrt(variance), 1e-6) for logp, mean, variance in tokens)
    lowest = z[: max(1, math.ceil(k * len(tokens)))]
    return math.fsum(lowest) / len(lowest)


def naive_released_min_k(tokens: Tokens, text: str) -> float:
    lowest = sorted(math.exp(t[0]) for t in tokens)[: max(1, math.ceil(0.2 * len(tokens)))]
    return math.fsum(lowest) / len(lowest)


def naive_released_min_k_plus_plus(tokens: Tokens, text: str) -> float:
    mixed = [(math.exp(logp), mean, variance) for logp, mean, variance in tokens]
    return naive_min_k_plus_plus(mixed, text)


ATTACKS: list[tuple[Attack, Callable[[Tokens, str], float]]] = [
    (Loss(), naive_loss),
    (Zlib(), naive_zlib),
    (MinK(), naive_min_k),
    (MinK(k=0.5), lambda tokens, text: naive_min_k(tokens, text, 0.5)),
    (MinKPlusPlus(), naive_min_k_plus_plus),
    (ReleasedMinK(), naive_released_min_k),
    (ReleasedMinKPlusPlus(), naive_released_min_k_plus_plus),
    (MinKPlusPlus(k=1.0), lambda tokens, text: naive_min_k_plus_plus(tokens, text, 1.0)),
]


@pytest.mark.parametrize(("attack", "naive"), ATTACKS)
def test_scores_equal_the_float64_loop(
    case: Case, attack: Attack, naive: Callable[[Tokens, str], float]
) -> None:
    found = attack.score(case.view)
    expected = [
        naive(tokens, record.response)
        for tokens, record in zip(case.tokens, case.view.records, strict=True)
    ]
    assert found.dtype == torch.float64
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("attack", [Loss(), Zlib(), MinK(), MinKPlusPlus(), Reference()])
def test_record_order_changes_no_score(case: Case, attack: Attack) -> None:
    order = [3, 0, 7, 2, 5, 1, 6, 4]
    shuffled = view_of(
        [case.view.records[i] for i in order],
        case.view.statistics.take(torch.tensor(order)),
        base=case.view.tokens(BASE).take(torch.tensor(order)),
    )
    torch.testing.assert_close(
        attack.score(shuffled), attack.score(case.view)[order], rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("attack", [Loss(), Zlib(), MinK(), MinKPlusPlus(), Reference()])
def test_a_better_known_record_scores_higher(case: Case, attack: Attack) -> None:
    table = case.view.statistics
    known = replace(table, logp=table.logp / 2)
    better = with_own(case.view, known)
    assert (attack.score(better) > attack.score(case.view)).all()


def test_reference_is_the_difference_of_means(case: Case) -> None:
    base = as_lists(case.view.tokens(BASE))
    expected = [
        naive_loss(own, "") - naive_loss(other, "")
        for own, other in zip(case.tokens, base, strict=True)
    ]
    found = Reference().score(case.view)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_reference_with_another_tokenizer_is_per_byte(case: Case) -> None:
    other = random_statistics(seed=2, lengths=tuple(length + 3 for length in LENGTHS))
    view = view_of(
        case.view.records,
        replace(case.view.statistics, key=StatisticsKey("m", "ours", "r")),
        llama=replace(other, key=StatisticsKey("m", "theirs", "r")),
    )
    expected = [
        (math.fsum(t[0] for t in own) - math.fsum(t[0] for t in ref))
        / len(record.response.encode())
        for own, ref, record in zip(case.tokens, as_lists(other), case.view.records, strict=True)
    ]
    found = Reference("llama").score(view)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_reference_on_other_tokens_is_refused(case: Case) -> None:
    other = random_statistics(seed=2, lengths=tuple(length + 3 for length in LENGTHS))
    with pytest.raises(ValueError, match="other tokens"):
        Reference().score(view_of(case.view.records, case.view.statistics, base=other))


def test_a_missing_reference_is_named(case: Case) -> None:
    with pytest.raises(
        UserError, match="'gpt2: original text' was not measured; .*'base: original text'"
    ):
        Reference("gpt2").score(case.view)


def test_sigma_has_a_floor() -> None:
    table = random_statistics(seed=0, lengths=(4,))
    certain = replace(table, logp=torch.zeros(4), mean=torch.zeros(4), variance=torch.zeros(4))
    assert MinKPlusPlus().score(view_of(records((4,)), certain)).tolist() == [0.0]


@pytest.mark.parametrize("attack_class", [MinK, MinKPlusPlus])
@pytest.mark.parametrize("k", [0.0, -0.1, 1.01, math.nan])
def test_a_share_outside_its_range_is_refused(attack_class: type[MinK], k: float) -> None:
    with pytest.raises(UserError, match="k is a share"):
        attack_class(k=k)


def test_impossible_tokens_give_minus_infinity_and_their_difference_is_refused(case: Case) -> None:
    table = case.view.statistics
    logp = table.logp.clone()
    logp[table.offsets[2]] = -math.inf
    impossible = replace(table, logp=logp)
    view = view_of(case.view.records, impossible, base=impossible)
    for attack in (Loss(), Zlib(), MinK(), MinKPlusPlus()):
        scores = attack.score(view)
        assert scores[2] == -math.inf
        assert scores.isfinite().sum() == len(LENGTHS) - 1
    with pytest.raises(UserError, match=r"record-2 \(test:2\) is not a number"):
        Reference().score(view)


def test_records_without_tokens_are_refused(case: Case) -> None:
    nothing = TokenStatistics.from_batch(["record-0"], torch.tensor([0]), empty_scores())
    with pytest.raises(ValueError, match="not defined on all records"):
        Loss().score(view_of(records()[:1], nothing))


def test_an_attack_of_another_shape_is_refused(case: Case) -> None:
    class PerToken(Loss):
        def record_scores(self, view: AuditView) -> Tensor:
            return view.statistics.logp

    with pytest.raises(ValueError, match="one score per record"):
        PerToken().score(case.view)


def test_names_params_and_requirements() -> None:
    described = {
        a.name: (a.params, a.requires)
        for a in (Loss(), Zlib(), MinK(), MinKPlusPlus(), Reference())
    }
    assert described == {
        "loss": ({}, {Scored()}),
        "zlib": ({}, {Scored()}),
        "min_k": ({"k": 0.2}, {Scored()}),
        "min_k_plus_plus": ({"k": 0.2}, {Scored()}),
        "reference": ({"reference": "base"}, {Scored(), BASE}),
    }
    assert json.loads(json.dumps(MinK(k=0.3).params)) == {"k": 0.3}


def test_every_attack_says_what_it_is() -> None:
    classes = [
        found
        for name in package.__all__
        if isinstance(found := getattr(package, name), type) and found is not Attack
    ]
    assert len({found.title for found in classes}) == len(classes) == 24
    for found in classes:
        assert package.describe(found.name) is found
        assert found.description.endswith(".")
        assert found.threat_model
        assert isinstance(found.access, Access)
    assert package.describe("somebody_elses") is None
