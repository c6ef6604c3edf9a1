"""What is kept of an audit says itself whether the model knew anything of the text."""

import math
from pathlib import Path

import pytest

from audits.membership.attacks import Loss
from audits.membership.evaluation import Opposition, Side
from audits.membership.plan import AuditPlan
from audits.membership.stored_audit import StoredAudit, load_audit, save_audit
from common.ranks import Ranks
from kd_privacy.attack_cli import guess_warnings
from tests.audits.membership.test_streaming import collected, encoder

NAMED = {"run": "teacher", "role": "teacher", "seed": 0, "step": 1}


@pytest.mark.parametrize(("tokens", "told"), [(1, True), (1000, False), (None, False)])
def test_attacks_on_a_stored_audit_are_warned_of_a_model_that_guesses(
    tmp_path: Path, tokens: int | None, *, told: bool
) -> None:
    """The model was never trained; of a thousand times the tokens it would know much."""
    view = collected([Loss()], Ranks(), tmp_path)
    side = Side(view, [record.id for record in view.records])
    size = None if tokens is None else tokens * len(encoder().tokenizer)
    pair = Opposition("private", "held_out", fair_coins=False)
    sides = {"private": side, "held_out": side}
    save_audit(tmp_path / "kept", StoredAudit(NAMED, sides, [pair], size))
    stored = load_audit(tmp_path / "kept", AuditPlan.of([Loss()]))
    assert stored.vocabulary_size == size
    warnings = guess_warnings(stored)
    assert len(warnings) == told
    if told:
        assert "knows nothing of the text: its held-out loss is " in warnings[0]
        nats = float(warnings[0].partition("loss is ")[2].split()[0])
        assert nats == pytest.approx(math.log(len(encoder().tokenizer)), abs=0.1)
