"""Every moment belongs to one phase; a part counts only inside the phase that it is part of."""

import itertools
import time

import pytest
import torch

from kdmodules.phase_clock import PhaseClock

CPU = torch.device("cpu")


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on the wall that goes on by one second whenever it is looked at."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))


def test_phases_and_parts_split_the_time(seconds: None) -> None:
    clock = PhaseClock()
    clock.start(CPU, "data")
    clock.switch("student")  # 1
    with clock.part("teacher", of="student"):  # 2
        pass
    clock.switch("data")  # 4
    with clock.part("teacher", of="student"):
        pass
    assert clock.seconds() == {"data": 2.0, "student": 2.0, "teacher": 1.0}
    clock.switch("student")
    assert clock.seconds() == {"data": 3.0, "student": 3.0, "teacher": 1.0}


def test_a_part_that_fails_ends(seconds: None) -> None:
    clock = PhaseClock()
    clock.start(CPU, "student")
    with pytest.raises(KeyError), clock.part("sampling", of="student"):
        raise KeyError
    assert clock.switch("data") == "student"


def test_many_marks_are_added_up_and_let_go(seconds: None) -> None:
    clock = PhaseClock()
    clock.start(CPU, "data")
    for _ in range(5000):
        clock.switch("student")
        clock.switch("data")
    assert len(clock._marks) < 5000
    assert clock.seconds() == {"data": 5001.0, "student": 5000.0}


def test_a_clock_that_was_not_started_marks_nothing() -> None:
    clock = PhaseClock()
    clock.switch("student")
    with clock.part("teacher", of="student"):
        pass
    assert clock.seconds() == {}


def test_a_start_forgets_what_was_before(seconds: None) -> None:
    clock = PhaseClock()
    clock.start(CPU, "data")
    clock.switch("student")
    clock.start(CPU, "data")
    assert clock.seconds() == {"data": 1.0}
