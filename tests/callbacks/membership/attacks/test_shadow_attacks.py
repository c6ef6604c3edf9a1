"""RMIA and LiRA against loops over records and references, and on planted Gaussian confidences."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy.stats import norm

from callbacks.membership import AuditView, TokenStatistics
from callbacks.membership.attacks import RMIA, Attack, LiRA
from callbacks.membership.attacks.confidence import logit_confidence
from callbacks.membership.measurements import NEVER, Scored
from callbacks.statistics import auroc
from datamodules.errors import UserError
from kdmodules.scoring import TokenScores
from tests.callbacks.membership.conftest import LENGTHS, as_lists, random_statistics, records

REFERENCES = ["shadow0", "shadow1", "shadow2"]
MET = {
    "shadow0": [True, False, True, False, False, True, False, True],
    "shadow1": [True, True, False, False, True, False, False, True],
    "shadow2": [False, False, False, False, True, True, True, True],
}


@pytest.fixture
def view() -> AuditView:
    """Eight records and a population of five under the audited model and three references."""
    passes = {}
    for seed, model in enumerate(("audited", *REFERENCES)):
        own = random_statistics(seed)
        passes[Scored(model=model)] = replace(own, logp=own.logp / 4)
        aside = random_statistics(10 + seed, LENGTHS[:5])
        passes[Scored(model=model, records=NEVER)] = replace(aside, logp=aside.logp / 4)
    met = {name: torch.tensor(values) for name, values in MET.items()}
    return AuditView(records(), passes, met=met)


def likelihoods(view: AuditView, model: str, aside: str = "audited") -> list[float]:
    tokens = as_lists(view.tokens(Scored(model=model, records=aside)))
    return [math.exp(math.fsum(t[0] for t in one) / len(one)) for one in tokens]


def kept(view: AuditView, attack: Attack) -> tuple[AuditView, list[int]]:
    defined = attack.defined(view)
    return view.where(defined), defined.nonzero().flatten().tolist()


@pytest.mark.parametrize(("gamma", "a"), [(1.0, 0.3), (1.5, 0.0), (1.0, 1.0)])
def test_rmia_counts_the_dominated_population(view: AuditView, gamma: float, a: float) -> None:
    attack = RMIA(REFERENCES, gamma, a)
    chosen, places = kept(view, attack)
    assert places == [0, 1, 2, 3, 4, 5, 6]  # all three references met record 7

    def ratio(p: float, out: list[float]) -> float:
        return p / (((1 + a) * sum(out) / len(out) + (1 - a)) / 2)

    z = [
        ratio(p, out)
        for p, *out in zip(
            *(likelihoods(view, model, NEVER) for model in ("audited", *REFERENCES)), strict=True
        )
    ]
    own = likelihoods(view, "audited")
    others = {name: likelihoods(view, name) for name in REFERENCES}
    expected = []
    for b in places:
        x = ratio(own[b], [others[name][b] for name in REFERENCES if not MET[name][b]])
        expected.append(sum(x / one > gamma for one in z) / len(z))
    assert attack.score(chosen).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_lira_is_the_gaussian_likelihood_ratio(view: AuditView, mode: str) -> None:
    attack = LiRA(REFERENCES, mode)
    chosen, places = kept(view, attack)
    assert places == ([0, 1, 2, 4, 5, 6] if mode == "online" else [0, 1, 2, 3, 4, 5, 6])

    def logit(p: float) -> float:
        return math.log(p / (1 - p))

    def sides(b: int, met: bool) -> list[float]:
        return [logit(likelihoods(view, n)[b]) for n in REFERENCES if MET[n][b] is met]

    def pooled(met: bool) -> float:
        groups = [sides(b, met) for b in places]
        squares = sum(float(np.var(group)) * len(group) for group in groups)
        return squares / sum(len(group) - 1 for group in groups)

    expected = []
    for b in places:
        phi = logit(likelihoods(view, "audited")[b])
        out = NormalDist(float(np.mean(sides(b, False))), math.sqrt(pooled(False)))
        if mode == "offline":
            expected.append((phi - out.mean) / out.stdev)
            continue
        inside = norm(np.mean(sides(b, True)), math.sqrt(pooled(True)))
        expected.append(inside.logpdf(phi) - norm(out.mean, out.stdev).logpdf(phi))
    assert attack.score(chosen).tolist() == pytest.approx(expected, rel=1e-9)


def planted(logits: torch.Tensor) -> TokenStatistics:
    """One token per record with the given logit-scaled confidence."""
    n = len(logits)
    logp = torch.nn.functional.logsigmoid(logits)
    scores = TokenScores(logp, -torch.ones(n), torch.ones(n), torch.zeros(n, dtype=torch.int64))
    return TokenStatistics.from_batch([str(i) for i in range(n)], torch.ones(n).long(), scores)


@pytest.mark.parametrize(("k", "mode"), [(4, "offline"), (32, "offline"), (32, "online")])
def test_lira_finds_a_planted_shift_and_nothing_without_one(k: int, mode: str) -> None:
    """phi ~ N(hardness + 1.5 [met], 1), hardness ~ N(0, 3): the loss alone hardly sees it."""
    generator = torch.Generator().manual_seed(0)
    n = 600
    hardness = 3 * torch.randn(n, generator=generator, dtype=torch.float64)
    member = torch.arange(n) < n // 2

    def model(met: torch.Tensor) -> TokenStatistics:
        noise = torch.randn(n, generator=generator, dtype=torch.float64)
        return planted(hardness + 1.5 * met + noise)

    names = [f"shadow{j}" for j in range(k)]
    met = {name: torch.rand(n, generator=generator) < 0.5 for name in names}
    passes = {Scored(model=name): model(met[name]) for name in names}
    base = records((1,))[0]
    audited = [replace(base, id=str(i)) for i in range(n)]
    attack = LiRA(names, mode)
    values = {}
    for planted_shift in (True, False):
        own = model(member & planted_shift)
        view = AuditView(audited, {Scored(): own, **passes}, met=met)
        defined = attack.defined(view)
        scores = attack.score(view.where(defined)).numpy()
        inside = member[defined].numpy()
        values[planted_shift] = auroc(scores[inside], scores[~inside])
    # Offline with k out-references: the gap over sqrt(2 (1 + 1/k_out)).
    ideal = NormalDist().cdf(1.5 / math.sqrt(2 * (1 + 2 / k)))
    assert values[True].value == pytest.approx(ideal, abs=0.04)
    assert values[False].lower < 0.5 < values[False].upper


def test_one_reference_ranks_by_the_difference() -> None:
    generator = torch.Generator().manual_seed(1)
    own, other = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(2))
    base = records((1,))[0]
    view = AuditView(
        [replace(base, id=str(i)) for i in range(6)],
        {Scored(): planted(own), Scored(model="out"): planted(other)},
    )
    assert LiRA(["out"]).score(view).tolist() == pytest.approx((own - other).tolist(), rel=1e-6)


def test_full_confidence_is_finite() -> None:
    assert logit_confidence(torch.tensor([0.0, -1e-30])).isfinite().all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: RMIA([]),
        lambda: RMIA(["a", "a"]),
        lambda: RMIA(["a"], gamma=0.5),
        lambda: RMIA(["a"], a=1.5),
        lambda: LiRA(["a"], "both"),
    ],
)
def test_bad_options_are_refused(build) -> None:
    with pytest.raises(UserError):
        build()
