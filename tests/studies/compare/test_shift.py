"""What a study knows of its record sets: coins protect it, the texts alone have to do elsewhere."""

import re

import numpy as np
import pytest

from audits.statistics import swap_estimate
from studies.claims.every_technique_leaks import leakage_statements
from studies.compare.shift import dealt_by_coins, shift_of_splits
from tests.processes import ROOT
from tests.studies.claims.tables import cell, row, study

MARGIN = '{"margin": 0.05}'
AUROCS = {7: 0.47, 8: 0.55, 9: 0.49, 10: 0.53, 11: 0.52}
ERROR = 0.038


def blind(run: str, value: float, **more: object) -> dict[str, object]:
    half = 1.959964 * ERROR
    shared = {"params": MARGIN, "lower": value - half, "upper": value + half}
    return row(run, "blind", "auroc", value, **shared, **more)


def of_replicates(aurocs: dict[int, float]) -> list[dict[str, object]]:
    students = [cell(role, "kd", one) for one in aurocs for role in ("student", "counterfactual")]
    return [blind(one.alias, aurocs[one.replicate or 0]) for one in students]


def test_each_split_counts_once_and_all_together_exclude_a_shift() -> None:
    swaps = {("kd", replicate): 0.7 for replicate in AUROCS}
    data = study(swaps, more=of_replicates(AUROCS), shifted=None)
    cells = {one.alias: one for one in data.figures.plan.cells}
    found = shift_of_splits(data.figures.results, cells)
    assert found is not None
    assert found.auroc == pytest.approx(sum(AUROCS.values()) / 5)
    assert found.standard_error == pytest.approx(ERROR / 5**0.5, rel=1e-4)
    assert found.shifted is False
    assert data.figures.shift_excluded()


@pytest.mark.parametrize(
    ("aurocs", "more"),
    [
        ({7: 0.47}, []),
        (dict.fromkeys(AUROCS, 0.5), []),  # one split under five names
        ({one: value + 0.06 for one, value in AUROCS.items()}, []),
        (AUROCS, [row("student-kd-r7", "loss", "auroc", 0.9, shifted=True)]),
    ],
    ids=["one split", "one split five times", "a shift in all", "a shift in one"],
)
def test_what_excludes_nothing(aurocs: dict[int, float], more: list[dict[str, object]]) -> None:
    swaps = {("kd", replicate): 0.7 for replicate in aurocs}
    data = study(swaps, more=[*of_replicates(aurocs), *more], shifted=None)
    assert not data.figures.shift_excluded()


@pytest.mark.parametrize("shifted", [None, True, False])
def test_where_coins_dealt_the_sides_no_verdict_hangs_on_their_texts(shifted: bool | None) -> None:
    leaks = {("kd", one): 0.7 + 0.01 * one for one in range(1, 6)}
    none = {("kd", one): 0.5 + 0.001 * (one - 4) for one in range(1, 6)}
    remembered = {key: 0.05 + 0.001 * key[1] for key in leaks}
    for swaps, word in ((leaks, "confirmed"), (none, "below the margin")):
        for coins in (True, False, None):
            data = study(swaps, remembered, shifted=shifted, coins=coins)
            membership, memorization = leakage_statements(data)
            free = coins is True or shifted is False
            assert membership.outcome.verdict == (word if free else "undecided")
            # What is written of the private side may be its manner, too. Where it is not, it is a
            # leak, beside which no leak of membership is called below the margin.
            assert memorization.outcome.verdict == ("confirmed" if free else "undecided")


def test_every_run_has_to_say_that_coins_dealt_its_sides() -> None:
    results = study({("kd", 1): 0.7, ("kd", 2): 0.7}, coins=True).figures.results
    runs = ["student-kd-r1", "student-kd-r2"]
    assert dealt_by_coins(results, runs)
    assert not dealt_by_coins(results, [*runs, "student-kd-r3"])
    assert not dealt_by_coins(results, [])
    one = results["run"].eq(runs[0]) & results["metric"].eq("dealt_by_coins")
    assert not dealt_by_coins(results.assign(value=results["value"].where(~one, 0.0)), runs)
    elsewhere = results.assign(population=results["population"].where(~one, "canary_in"))
    assert not dealt_by_coins(elsewhere, runs)


def swap_of_fresh_records(tilt: float, rng: np.random.Generator) -> tuple[float, float]:
    """Returns the interval of the swap estimate of records that no teacher ever saw.

    Two unigram teachers, each fitted on 2,000 records of its side, score fresh records of both
    sides. A record has a manner, words that are common in it; `tilt` is how much likelier the
    manner of the private side is there than on the other.
    """
    manners = rng.dirichlet(np.ones(200), size=2)  # [2, V] word frequencies

    def records(side: int, n: int) -> np.ndarray:
        common = rng.random(n) < 0.5 + (tilt if side == 0 else -tilt)
        return np.stack([rng.multinomial(20, manners[int(not one)]) for one in common])  # [n, V]

    logs = [np.log((records(side, 2000).sum(axis=0) + 1) / (2000 * 20 + 200)) for side in (0, 1)]
    fresh = [records(side, 600) for side in (0, 1)]
    scores = [one @ log for log in logs for one in fresh]
    found = swap_estimate(*scores)  # clusters: every record is drawn by itself
    return found.lower, found.upper


def test_a_shift_passes_for_a_leak_in_a_swap_estimate_and_coins_prevent_it() -> None:
    """The swap design alone does not protect: a teacher learns the distribution of its side."""
    rng = np.random.default_rng(5)
    assert swap_of_fresh_records(0.3, rng)[0] > 0.54
    lower, upper = swap_of_fresh_records(0.0, rng)
    assert lower <= 0.5 <= upper


def test_no_page_promises_that_the_swap_design_alone_protects() -> None:
    root = ROOT
    texts = [root / "README.md", *(root / "docs").glob("*.md")]
    for package in ("callbacks", "studies", "datamodules", "configs"):
        texts += [one for one in (root / package).rglob("*.*") if one.suffix != ".pyc"]
    promise = re.compile(r"(can|cannot)\s+fake|free\s+of\s+any\s+difference", re.IGNORECASE)
    found = [one.name for one in texts if promise.search(one.read_text(encoding="utf-8"))]
    assert found == []
