"""Attacks on the model itself find a planted leak and accuse no clean model."""

import pytest
import torch

from audits.membership.attacks import Attack, GradNorm, MoPe, SaMIA
from audits.membership.measurements import Scored
from audits.membership.signals import RecordSignal
from audits.membership.view import AuditView
from audits.scoring.model_access import ModelAccess
from audits.scoring.scoring_pass import score_records
from audits.statistics import Estimate, auroc, auroc_over_draws
from datamodules.records import InstructionRecord
from tests.audits.membership.signals.conftest import Planted


def measured(attack: Attack, access: ModelAccess, of: list[InstructionRecord]) -> AuditView:
    """Everything that an attack reads of these records."""
    encoded = access.encoder.encode_all(of)
    with torch.no_grad():
        own = score_records(access, encoded, "")
        (signal,) = attack.requires
        assert isinstance(signal, RecordSignal)
        return AuditView(of, {Scored(): own}, {signal: signal.measure(access, encoded)})


def estimate(attack: Attack, access: ModelAccess, planted: Planted) -> Estimate:
    inside, outside = (measured(attack, access, of) for of in (planted.members, planted.nonmembers))
    draws = attack.draws(inside), attack.draws(outside)
    if draws[0] is not None and draws[1] is not None:
        return auroc_over_draws(draws[0], draws[1])
    return auroc(attack.score(inside), attack.score(outside))


@pytest.mark.parametrize(
    "attack", [GradNorm(), MoPe(), SaMIA(samples=4)], ids=lambda attack: attack.name
)
def test_a_planted_leak_is_found_and_a_clean_model_is_not_accused(
    attack: Attack, planted: Planted
) -> None:
    leaking = estimate(attack, planted.access, planted)
    assert leaking.lower > 0.7, leaking
    clean = estimate(attack, planted.untrained, planted)
    assert clean.lower < 0.5 < clean.upper, clean
