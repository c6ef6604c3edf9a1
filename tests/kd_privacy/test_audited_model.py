"""What can be had of an audit: left out and noted, or an error where it was asked for by name."""

from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import UserError
from datamodules.batches import RecordEncoder
from datamodules.tokenizer import train_tokenizer
from kd_privacy.audit_options import AuditOptions
from kd_privacy.audited_model import comparable, possible


def refuse() -> None:
    raise UserError("its blocks are unknown")


@pytest.mark.parametrize(
    ("asked", "found", "notes"),
    [
        (None, {"utility"}, ["blocks is left out: its blocks are unknown"]),
        (False, {"utility"}, []),
    ],
)
def test_what_was_not_asked_for_by_name_is_left_out(
    asked: bool | None, found: set[str], notes: list[str]
) -> None:
    checks = {"blocks": refuse, "utility": lambda: None}
    assert possible(checks, AuditOptions(blocks=asked)) == (frozenset(found), notes)


def test_what_was_asked_for_by_name_is_an_error() -> None:
    with pytest.raises(UserError, match="its blocks are unknown"):
        possible({"blocks": refuse}, AuditOptions(blocks=True))


def test_a_teacher_with_other_tokens_is_not_compared() -> None:
    small, large = (
        RecordEncoder(train_tokenizer(["to be or not to be, that is the question"] * 9, size))
        for size in (260, 264)
    )
    access = SimpleNamespace(encoder=large, lm="the teacher")
    teacher: Any = SimpleNamespace(context=SimpleNamespace(model=access))
    assert comparable(teacher, large, None) == (["the teacher"], [])
    models, notes = comparable(teacher, small, None)
    assert models == []
    assert "teacher_kl is left out: the teacher's tokenizer (264 tokens)" in notes[0]
    with pytest.raises(UserError, match="utility: the teacher's tokenizer"):
        comparable(teacher, small, True)
