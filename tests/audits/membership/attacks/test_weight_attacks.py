"""Attacks that take more of the model than log-probabilities: scores, options, intervals."""

import json
import math
from collections.abc import Callable

import pytest
import torch

from audits.membership.attacks import Attack, GradNorm, MoPe, SaMIA
from audits.membership.measurements import Scored
from audits.membership.metrics import ScoredRecords, attack_rows
from audits.membership.signals import (
    ContinuationOverlap,
    GradientNorm,
    RecordSignal,
    WeightNoise,
)
from audits.membership.view import AuditView
from audits.statistics import auroc, auroc_over_draws, reliability
from common.errors import UserError
from tests.audits.membership.conftest import random_statistics, records

ATTACKS = [GradNorm(), MoPe(), SaMIA()]


def signal_of(attack: Attack) -> RecordSignal:
    (signal,) = attack.requires
    assert isinstance(signal, RecordSignal)
    return signal


def view_with(attack: Attack, values: torch.Tensor) -> AuditView:
    n = len(values)
    table = random_statistics(seed=0, lengths=(3,) * n)
    return AuditView(records((3,) * n), {Scored(): table}, {signal_of(attack): values})


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (GradNorm(), lambda row: -row[0]),
        (MoPe(draws=3), lambda row: math.fsum(row) / 3),
        (SaMIA(samples=3), lambda row: math.fsum(row) / 3),
    ],
)
def test_scores(attack: Attack, expected: Callable[[list[float]], float]) -> None:
    k = 1 if isinstance(attack, GradNorm) else 3
    values = torch.rand(8, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    view = view_with(attack, values)
    scores = attack.score(view)
    wanted = torch.tensor([expected(row) for row in values.tolist()], dtype=torch.float64)
    torch.testing.assert_close(scores, wanted, rtol=1e-12, atol=0)
    draws = attack.draws(view)
    shared = attack.name == "mope"
    assert torch.equal(draws, values) if draws is not None else not shared
    expected_diagnostics = {
        "grad_norm": {},
        "mope": {"nll_rise": pytest.approx(float(values.mean()))},
        "samia": {"reliability": reliability(values) if k > 1 else None},
    }
    assert attack.diagnostics(view) == expected_diagnostics[attack.name]


def test_samia_counts_records_without_two_halves_as_skipped() -> None:
    attack = SaMIA(samples=3)
    values = torch.ones(4, 3, dtype=torch.float64)
    values[1] = torch.nan
    view = view_with(attack, values)
    defined = attack.defined(view)
    assert defined.tolist() == [True, False, True, True]
    assert attack.score(view.where(defined)).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="not defined on all records"):
        attack.score(view)


def test_names_params_and_requirements() -> None:
    published = MoPe(draws=10, rho=None, sigma=0.005, antithetic=False)
    described = [(a.name, a.params, signal_of(a)) for a in (*ATTACKS, published)]
    rho = MoPe().params["rho"]
    assert isinstance(rho, float)
    assert described == [
        ("grad_norm", {"p": 2.0}, GradientNorm(2.0)),
        (
            "mope",
            {"draws": 5, "antithetic": True, "rho": rho},
            WeightNoise(5, rho, relative=True, antithetic=True),
        ),
        (
            "samia",
            {"samples": 10, "temperature": 1.0, "top_k": 50},
            ContinuationOverlap(10, 1.0, 50),
        ),
        (
            "mope",
            {"draws": 10, "antithetic": False, "sigma": 0.005},
            WeightNoise(10, 0.005, relative=False, antithetic=False),
        ),
    ]
    assert [signal_of(a).passes for a in (*ATTACKS, published)] == [3.0, 11.0, 10.0, 11.0]
    assert all(json.loads(json.dumps(a.params)) == a.params and a.threat_model for a in ATTACKS)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GradNorm(p=0.5), "p is 0.5"),
        (lambda: GradNorm(p=math.inf), "p is inf"),
        (lambda: GradNorm(p=math.nan), "p is nan"),
        (lambda: MoPe(draws=2), "draws is 2"),
        (lambda: MoPe(rho=None), "rho is None and sigma is None"),
        (lambda: MoPe(sigma=0.1), "sigma is 0.1: give one"),
        (lambda: MoPe(rho=0.0), "rho is 0.0"),
        (lambda: MoPe(rho=math.inf), "rho is inf"),
        (lambda: SaMIA(samples=1), "samples is 1"),
        (lambda: SaMIA(temperature=0.0), "temperature is 0.0"),
        (lambda: SaMIA(top_k=-1), "top_k is -1"),
    ],
)
def test_options_out_of_range_are_refused(build: Callable[[], Attack], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_draws_reach_the_interval_of_the_auroc() -> None:
    generator = torch.Generator().manual_seed(2)
    draws = torch.randn(2, 8, 4, generator=generator, dtype=torch.float64) + torch.tensor(
        [[[1.0]], [[0.0]]]
    )
    sides = []
    for name, of in (("private", draws[0]), ("held_out", draws[1])):
        view = view_with(MoPe(draws=4), of)
        ids, tasks = [one.id for one in view.records], ["open_qa"] * 8
        scores = MoPe(draws=4).score(view).numpy()
        clusters = torch.arange(8).numpy() + (100 if name == "private" else 0)
        sides.append(ScoredRecords(name, ids, tasks, clusters, scores, draws=of.numpy()))
    rows = {(row["task"], row["metric"]): row for row in attack_rows("mope", {}, *sides)}
    assert rows[None, "reliability"]["value"] == reliability(draws.reshape(16, 4))
    row = rows[None, "auroc"]
    wanted = auroc_over_draws(
        draws[0], draws[1], member_clusters=sides[0].clusters, nonmember_clusters=sides[1].clusters
    )
    assert (row["value"], row["lower"], row["upper"]) == (wanted.value, wanted.lower, wanted.upper)
    plain = auroc(sides[0].scores, sides[1].scores)
    assert wanted.value == plain.value
    assert wanted.upper - wanted.lower > plain.upper - plain.lower
