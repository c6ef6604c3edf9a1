"""The simulation of verdicts tells a claim that holds from one that does not."""

import pytest

from benchmarks.simulate_claims import Scenario, page, scenarios, simulate

CLEAR = [one for one in scenarios() if not one.what.startswith("edge")]


@pytest.mark.parametrize("scenario", CLEAR, ids=lambda one: f"{one.claim} {one.what}")
def test_a_few_simulated_studies(scenario: Scenario) -> None:
    row = simulate(scenario, 8, 5)
    assert row.confirmed + row.refuted + row.undecided == 8
    if scenario.effect:
        assert row.confirmed >= 2
        assert row.refuted == 0
    else:
        # At 5%, two of eight or more happen in 6% of the runs of a rule at its edge; these draws
        # are fixed, and none of these truths lies at an edge.
        assert row.confirmed <= 1
        assert f"| {scenario.claim} | {scenario.what} | no | 5 |" in page([row], 1.0)


def test_every_claim_has_studies_with_and_without_effect() -> None:
    kinds = {(one.claim, one.effect) for one in scenarios()}
    assert kinds == {(f"C{i}", effect) for i in range(1, 6) for effect in (False, True)}


def test_a_kind_of_study_is_drawn_alike_whichever_others_run() -> None:
    assert simulate(CLEAR[0], 3, 5) == simulate(CLEAR[0], 3, 5)
