"""What Presidio's patterns recognise becomes sensitive, without a network; its absence is told."""

import importlib.util
import socket

import pytest

from common.errors import UserError
from datamodules import InstructionDataModule
from datamodules.detected_pii import with_detected
from datamodules.records import records_from_rows

TEXT = "Call Ada Foxhurst at 212-555-0188 or ada@example.org; card 4111 1111 1111 1111."
ROW = {"instruction": "Who?", "response": TEXT, "sensitive": {"name": ["Ada Foxhurst"]}}


def test_a_missing_package_is_told_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("datamodules.detected_pii.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'kd-privacy\[presidio\]'"):
        InstructionDataModule(detect_pii="presidio")
    with pytest.raises(UserError, match="choose presidio"):
        InstructionDataModule(detect_pii="all")  # type: ignore[arg-type]


@pytest.mark.skipif(
    importlib.util.find_spec("presidio_analyzer") is None, reason="an extra that is not installed"
)
def test_patterns_are_recognised_beside_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a name was looked up in the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    plain = {"instruction": "Who?", "response": "Nothing here."}
    records = records_from_rows([("a", ROW), ("b", plain)], "test")
    first, second = with_detected(records, "presidio")
    assert {(span.text, span.type) for span in first.sensitive} == {
        ("Ada Foxhurst", "name"),
        ("212-555-0188", "phone_number"),
        ("ada@example.org", "email_address"),
        ("4111 1111 1111 1111", "credit_card"),
    }
    assert second.sensitive == ()
