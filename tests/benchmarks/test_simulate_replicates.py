"""The simulation of statements over replicates finds the old rules wrong and the new ones not."""

import pytest

from benchmarks.simulate_replicates import Row, Scenario, page, scenarios, simulate

EVERY = list(scenarios())
RULES = {rule: [one for one in EVERY if one.rule == rule] for rule in {one.rule for one in EVERY}}


def test_every_rule_has_studies_and_every_study_its_name() -> None:
    assert len(RULES) == 4
    assert len({(one.rule, one.what) for one in EVERY}) == len(EVERY)


@pytest.mark.parametrize(
    ("rule", "what", "draws", "before"),
    [
        ("techniques differ", "one of six varies 10 times as much, R = 5", 400, 0.1),
        ("tau of two rankings", "noise 0.06 and 0.06, R = 5", 400, 0.6),
        ("headline", "independent noise, R = 5", 400, 0.08),
        ("headline", "0.61, one replicate of 200", 100, 0.0),
        ("does it leak", "20 attacks, clusters of 1", 100, 0.1),
    ],
)
def test_a_few_simulated_studies(rule: str, what: str, draws: int, before: float) -> None:
    (scenario,) = (one for one in EVERY if one.rule.startswith(rule) and what in one.what)
    row = simulate(scenario, draws)
    assert row.met
    assert row.rate_before > before
    assert f"| {scenario.what} | {row.draws} |" in page([row], 1.0)


def test_what_is_wrong_too_often_is_said() -> None:
    row = Row("rule", "wrong", "before", "truth", 0.05, 400, 0.08, 0.0)
    assert not row.met
    assert row.limit == pytest.approx(0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5)
    assert "| 0.080 | 0.000 | 0.072 | NO |" in page([row], 1.0)


def test_a_kind_of_study_is_drawn_alike_whichever_others_run() -> None:
    scenario: Scenario = EVERY[0]
    assert simulate(scenario, 30) == simulate(scenario, 30)
