"""Blocks: over replicates, of one replicate, and where nothing may be ranked."""

import numpy as np

from studies.claims.blocks_differ import block_statements
from studies.claims.figures import StudyFigures
from tests.studies.claims.tables import REPLICATES, row, study


def blocks(run: str, aurocs: list[float], reliability: float = 0.9) -> list[dict[str, object]]:
    shared = {"audit": "blocks", "params": '{"antithetic": true, "n_blocks": 3}'}
    return [
        row(run, "block_mope", metric, value, block=block, **shared)
        for block, auroc in enumerate(aurocs)
        for metric, value in (("auroc", auroc), ("reliability", reliability))
    ]


def block_study(
    spread: float, reliability: float = 0.9, more: list[dict[str, object]] | None = None
) -> StudyFigures:
    rng = np.random.default_rng(2)
    more = list(more or [])
    for r in REPLICATES:
        profile = 0.6 + spread * np.array([0.0, 0.5, 1.0]) + 0.01 * rng.normal(size=3)
        more += blocks(f"student-kd-r{r}", list(profile), reliability)
        more += blocks(f"counterfactual-kd-r{r}", list(1.0 - profile), reliability)
    return study({("kd", r): 0.7 + 0.01 * r for r in REPLICATES}, more=more).figures


def test_blocks_that_lie_apart_are_confirmed() -> None:
    (found,) = block_statements(block_study(0.2))
    assert (found.outcome.verdict, found.n) == ("confirmed", "5 replicates")
    assert found.outcome.what.endswith("block 2 − block 0")
    assert block_statements(block_study(0.0))[0].outcome.verdict == "refuted"


def of_weights(run: str) -> list[dict[str, object]]:
    wide = {"lower": 0.1, "upper": 0.3, "n_members": 80, "n_nonmembers": 90}
    shared = {"audit": "blocks", "params": '{"antithetic": true, "n_blocks": 3}'}
    return [
        row(run, "block_mope", "max_minus_min", 0.2, **wide, **shared),
        row(run, "block_mope", "equal_blocks_wald", 30.0, p_value=0.001, **shared),
    ]


def test_unreliable_noise_is_not_ranked_and_no_signal_is_named() -> None:
    audits = [one for r in REPLICATES for one in of_weights(f"student-kd-r{r}")]
    (found,) = block_statements(block_study(0.2, reliability=0.5, more=audits))
    # Five replicates are no single one, whose own audits would speak for its weights.
    assert (found.about, found.outcome.effect) == ("techniques", None)
    assert found.outcome.verdict == "undecided"
    assert "too unreliable at blocks 0, 1, 2" in found.outcome.why
    (nothing,) = block_statements(study({("kd", 1): 0.7}).figures)
    assert "block_mope was not measured" in nothing.outcome.why
    assert nothing.n == "1 replicate"


def test_one_replicate_is_counted_where_its_blocks_cannot_be_ranked() -> None:
    more = [
        *blocks("student-kd-r1", [0.6, 0.7, 0.8], reliability=0.5),
        *blocks("counterfactual-kd-r1", [0.4, 0.3, 0.2]),
        *of_weights("student-kd-r1"),
    ]
    (found,) = block_statements(study({("kd", 1): 0.7}, more=more).figures)
    assert found.n == "1 replicate, 80 + 90 records"
    assert found.outcome.verdict == "undecided"


def test_one_replicates_blocks_are_judged_by_their_audits() -> None:
    shared = {"audit": "blocks", "params": '{"antithetic": true, "n_blocks": 3}'}
    more = [
        *blocks("student-kd-r1", [0.6, 0.7, 0.8]),
        *blocks("counterfactual-kd-r1", [0.4, 0.3, 0.2]),
        *of_weights("student-kd-r1"),
    ]
    # The texts of the audit's own records, which is no block's.
    more.append(row("student-kd-r1", "blind", "auroc", 0.5, **shared))
    (found,) = block_statements(study({("kd", 1): 0.7}, more=more).figures)
    assert (found.about, found.outcome.verdict) == ("these weights", "confirmed")
    (gated,) = block_statements(study({("kd", 1): 0.7}, more=more, shifted=None).figures)
    assert gated.outcome.verdict == "undecided"
    assert "shift" in gated.outcome.why
