"""RMIA and LiRA against loops over records and references, and on planted Gaussian confidences."""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy.stats import norm

from audits.membership.attacks import RMIA, Attack, LiRA, Loss, Reference
from audits.membership.attacks.confidence import logit_confidence
from audits.membership.attacks.offline import GRID
from audits.membership.measurements import NEVER, Scored
from audits.membership.view import AuditView
from audits.scoring.token_statistics import TokenStatistics
from audits.statistics import Estimate, auroc, certified_tpr
from common.errors import UserError
from tests.audits.membership.conftest import (
    LENGTHS,
    as_lists,
    planted_confidences,
    random_statistics,
    records,
)

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


@pytest.mark.parametrize(("gamma", "a"), [(1.0, 0.3), (1.5, 0.0), (1.0, 1.0), (1.0, None)], ids=str)
def test_rmia_counts_the_dominated_population(
    view: AuditView, gamma: float, a: float | None
) -> None:
    attack = RMIA(REFERENCES, gamma, a)
    chosen, places = kept(view, attack)
    assert places == [0, 1, 2, 3, 4, 5, 6]  # all three references met record 7
    weight = 1.0 if a is None else a  # nothing was tuned

    def ratio(p: float, out: list[float]) -> float:
        return p / (((1 + weight) * sum(out) / len(out) + (1 - weight)) / 2)

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
        part = 0.5 + math.atan(math.log(x / gamma)) / math.pi
        expected.append((sum(x / one > gamma for one in z) + part) / (len(z) + 1))
    assert attack.score(chosen).tolist() == pytest.approx(expected, abs=1e-12)


def test_rmia_breaks_ties_of_the_share_by_the_ratio() -> None:
    """Records of 20 ratios against a population of 2: three shares, but the ratios' ranking."""
    ratios = torch.linspace(-40, 40, 20, dtype=torch.float64)
    base = records((1,))[0]
    passes = {
        Scored(): planted_confidences(ratios - 45),
        Scored(model="out"): planted_confidences(torch.full((20,), -45.0)),
        Scored(records=NEVER): planted_confidences([-55.0, -35.0]),
        Scored(model="out", records=NEVER): planted_confidences([-45.0, -45.0]),
    }
    view = AuditView([replace(base, id=str(i)) for i in range(20)], passes)
    scores = RMIA(["out"]).score(view)
    assert (scores.diff() > 0).all()
    dominated = [sum(float(one) > z for z in (-10, 10)) for one in ratios]
    assert (scores * 3).floor().tolist() == dominated


@dataclass(frozen=True)
class Leak:
    """Text-like likelihoods of .0005 to .05: LL ~ N(difficulty + leak [met], noise)."""

    leak: float
    spread: float = 1.0
    noise: float = 0.15
    n: int = 600

    def view(self, names: list[str], seed: int = 0) -> tuple[AuditView, np.ndarray]:
        """A view under an audited model and references of known coins, and who was a member."""
        rng = np.random.default_rng(seed)
        difficulty = rng.normal(-5.3, self.spread, self.n)
        aside = rng.normal(-5.3, self.spread, 60)
        member = rng.random(self.n) < 0.5
        met = {name: rng.random(self.n) < 0.5 for name in names}
        passes = {}
        for name, inside in {"audited": member, **met}.items():
            level = difficulty + self.leak * inside + rng.normal(0, self.noise, self.n)
            passes[Scored(model=name)] = of_likelihoods(level)
            others = aside + rng.normal(0, self.noise, 60)
            passes[Scored(model=name, records=NEVER)] = of_likelihoods(others)
        base = records((1,))[0]
        audited = [replace(base, id=str(i)) for i in range(self.n)]
        known = {name: torch.tensor(values) for name, values in met.items()}
        return AuditView(audited, passes, met=known), member


def of_likelihoods(log_likelihoods: np.ndarray) -> TokenStatistics:
    """One token per record with the given log-probability, at most -1e-6."""
    capped = np.minimum(log_likelihoods, -1e-6)
    return planted_confidences(capped - np.log(-np.expm1(capped)))


def area(attack: Attack, view: AuditView, member: np.ndarray) -> Estimate:
    defined = attack.defined(view)
    scores = attack.score(view.where(defined)).numpy()
    inside = member[defined.numpy()]
    return auroc(scores[inside], scores[~inside])


def test_rmia_beats_the_loss_behind_a_spread_of_difficulty() -> None:
    """The published a = 0.3 cannot: it swamps the mean of small likelihoods."""
    names = [f"shadow{j}" for j in range(4)]
    view, member = Leak(0.3).view(names)
    tuned = RMIA(names).tuned([view])
    found, loss = area(tuned, view, member), area(Loss(), view, member)
    assert found.lower > loss.upper + 0.1
    assert area(RMIA(names, a=0.3), view, member).value < loss.value + 0.02
    chosen = view.where(tuned.defined(view))
    assert tuned.diagnostics(chosen)["spearman_loss"] < 0.6
    assert RMIA(names, a=0.3).diagnostics(chosen)["spearman_loss"] > 0.99
    assert tuned.params == RMIA(names).params != RMIA(names, a=0.9).params
    areas = []
    for seed in range(10):
        clean, nobody = Leak(0.0).view(names, seed)
        areas.append(area(RMIA(names).tuned([clean]), clean, nobody).value)
    assert abs(np.mean(areas) - 0.5) < 4 * 0.024 / math.sqrt(10)


def naive_correction(view: AuditView, names: list[str]) -> dict[float, float]:
    """Mean AUROC by a, pair by pair in float64."""
    p = {name: likelihoods(view, name) for name in names}
    found = {}
    for a in GRID:
        areas = []
        for target in names:
            rest = [name for name in names if name != target]
            sides: dict[bool, list[float]] = {True: [], False: []}
            for b in range(len(view.records)):
                out = [p[name][b] for name in rest if not view.met[name][b]]
                if out:
                    mean = ((1 + a) * sum(out) / len(out) + (1 - a)) / 2
                    sides[bool(view.met[target][b])].append(p[target][b] / mean)
            wins = [(x > y) + (x == y) / 2 for x in sides[True] for y in sides[False]]
            areas.append(sum(wins) / len(wins))
        found[a] = sum(areas) / len(areas)
    return found


@pytest.mark.parametrize("spread", [0.05, 0.5, 1.5])
def test_the_correction_is_the_best_against_the_references_themselves(spread: float) -> None:
    names = [f"shadow{j}" for j in range(3)]
    view, _ = Leak(0.3, spread=spread, noise=0.4, n=60).view(names, seed=3)
    attack = RMIA(names).tuned([view])
    chosen = attack.diagnostics(view.where(attack.defined(view)))["a"]
    areas = naive_correction(view, names)
    assert areas[chosen] == pytest.approx(max(areas.values()), abs=1e-12)
    assert chosen == max(a for a, one in areas.items() if one > areas[chosen] - 1e-9)


def test_the_correction_is_one_where_no_coins_are_known() -> None:
    """One reference is then `reference` by another name, and the row says so."""
    names = ["shadow0", "shadow1"]
    view, _ = Leak(0.3).view(names)
    for attack, known in (
        (RMIA(["shadow0"]), view.met),  # nobody to attack it with
        (RMIA(names), {}),
        (RMIA(names), {"shadow0": torch.ones(600, dtype=torch.bool)}),
    ):
        asked = replace(view, met=known)
        tuned = attack.tuned([asked])
        assert tuned.diagnostics(asked.where(tuned.defined(asked)))["a"] == 1.0
    alone = replace(view, met={})
    diagnostics = RMIA(["shadow0"]).diagnostics(alone)
    assert diagnostics["spearman_reference"] == pytest.approx(1.0, abs=1e-12)
    ours, theirs = RMIA(["shadow0"]).score(alone), Reference("shadow0").score(alone)
    assert ours.argsort().tolist() == theirs.argsort().tolist()
    assert RMIA(names).diagnostics(alone)["spearman_reference"] < 1.0


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


@pytest.mark.parametrize(("k", "mode"), [(4, "offline"), (32, "offline"), (32, "online")])
def test_lira_finds_a_planted_shift_and_nothing_without_one(k: int, mode: str) -> None:
    """phi ~ N(hardness + 1.5 [met], 1), hardness ~ N(0, 3): the loss alone hardly sees it."""
    generator = torch.Generator().manual_seed(0)
    n = 600
    hardness = 3 * torch.randn(n, generator=generator, dtype=torch.float64)
    member = torch.arange(n) < n // 2

    def model(met: torch.Tensor) -> TokenStatistics:
        noise = torch.randn(n, generator=generator, dtype=torch.float64)
        return planted_confidences(hardness + 1.5 * met + noise)

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


@pytest.mark.parametrize(
    ("mode", "shadows"), [("offline", 1), ("online", 2)], ids=["offline", "online"]
)
def test_lira_scores_members_and_nonmembers_in_one_unit(mode: str, shadows: int) -> None:
    """A counterfactual is an out-reference of members alone; that leaks nothing.

    With variances of each side's own, members would be divided by theirs, and non-members, of whom
    none has two out-references, by 1: of a clean model 23% of members at 1% FPR.
    """
    rng = np.random.default_rng(0)
    n, base = 400, records((1,))[0]
    member = torch.arange(2 * n) < n
    names = ["counterfactual", *(f"shadow{j}" for j in range(shadows))]
    audited = [replace(base, id=str(i)) for i in range(2 * n)]
    hardness = rng.normal(0, 3, 2 * n)
    passes = {
        Scored(model=name): planted_confidences(hardness + 0.3 * rng.normal(size=2 * n), audited)
        for name in ("audited", *names)
    }
    met = {name: torch.tensor(rng.random(2 * n) < 0.5) for name in names[1:]}
    whole = AuditView(audited, passes, met=met | {"counterfactual": ~member})
    whole = whole.where(LiRA(names, mode).defined(whole))
    inside = torch.tensor([int(record.id) < n for record in whole.records])
    sides = [whole.where(inside), whole.where(~inside)]
    ours, theirs = (LiRA(names, mode).tuned(sides).score(side) for side in sides)
    assert torch.equal(torch.cat([ours, theirs]), LiRA(names, mode).score(whole))
    assert certified_tpr(ours.numpy(), theirs.numpy(), 0.01).lower < 0.01


def test_one_reference_ranks_by_the_difference() -> None:
    generator = torch.Generator().manual_seed(1)
    own, other = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(2))
    base = records((1,))[0]
    view = AuditView(
        [replace(base, id=str(i)) for i in range(6)],
        {Scored(): planted_confidences(own), Scored(model="out"): planted_confidences(other)},
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
