"""Attacks on a stored audit know what the run's training guarantees of its members."""

from pathlib import Path

import pytest

from audits.membership.stored_audit import StoredAudit
from common.guarantee import Certificate, Guarantee, write
from kd_privacy.attack_cli import stored_guarantee

DP = Guarantee(certificate=Certificate.dp, defence="dp_teacher", epsilon=8.0, delta=5e-4)


@pytest.mark.parametrize(
    ("role", "expected"), [("student", DP), ("counterfactual", None), ("teacher", DP)]
)
def test_it_is_the_run_s_but_not_of_what_trained_on_the_other_side(
    tmp_path: Path, role: str, expected: Guarantee | None
) -> None:
    write(tmp_path, DP)
    stored = StoredAudit({"run": "r", "role": role, "step": 1}, {}, [], None)
    statistics = tmp_path / "private" / "statistics" / "step=1"
    assert stored_guarantee(statistics, stored) == expected
    assert stored_guarantee(Path("/copied"), stored) is None
