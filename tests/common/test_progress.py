"""One bar at a time on a terminal; a line now and then in a file."""

import io

import pytest
from rich.console import Console

from common.progress import OneBar


def shown(*, terminal: bool, line_seconds: float = 0.0) -> tuple[OneBar, io.StringIO]:
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, width=100, color_system=None)
    return OneBar(console=console, line_seconds=line_seconds), said


def test_a_file_gets_whole_lines_that_say_what_runs_and_when_it_ends() -> None:
    bar, said = shown(terminal=False)
    with bar.bar("training [/bold]", 4) as step:
        for _ in range(4):
            step()
            with bar.bar("scoring", 2) as inner:
                inner()
    lines = said.getvalue().splitlines()
    assert "\r" not in said.getvalue()
    assert lines[:2] == ["training [/bold]  1/4  about 1 s left", "scoring  1/2  about 1 s left"]
    assert not any("4/4" in line for line in lines), "what ends needs no line"


def test_lines_come_now_and_then() -> None:
    bar, said = shown(terminal=False, line_seconds=3600.0)
    with bar.bar("training", 1000) as step:
        for _ in range(1000):
            step()
    assert said.getvalue() == ""


def test_a_terminal_shows_the_innermost_work_alone_and_is_left_clean() -> None:
    bar, said = shown(terminal=True)
    with bar.bar("training", 4) as step:
        step()
        said.truncate(0)
        with bar.bar("scoring", 2):
            assert "scoring" in said.getvalue()
            assert "training" not in said.getvalue()
        assert "training" in said.getvalue()
    assert bar._bars is None
    assert said.getvalue().endswith("\x1b[1A\x1b[2K") or said.getvalue().endswith("\x1b[?25h")


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_ends_every_work(*, terminal: bool) -> None:
    bar, _ = shown(terminal=terminal)
    bar.begin("training", float("inf"))
    bar.begin("scoring", 3)
    bar.advance()
    bar.close()
    bar.say("next", "line")
    assert bar._bars is None


def test_what_is_hidden_says_nothing() -> None:
    said = io.StringIO()
    bar = OneBar(shown=False, console=Console(file=said))
    bar.say("model", "x")
    with bar.bar("training", 2) as step:
        step()
    assert said.getvalue() == ""
