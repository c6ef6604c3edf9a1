"""Attempts on `kd-study`: study files, folders of studies, options."""

from collections.abc import Iterator

from tests.siege.attempts import Attempt, bomb

_GOOD = "name: s\ndata: builtin\nfamilies: [gpt2-tiny]\n"


def _study(text: str | bytes, says: str, command: str = "plan") -> Attempt:
    return Attempt(("kd-study", command, "s.yaml"), says, {"s.yaml": text})


def files() -> Iterator[tuple[str, Attempt]]:
    """Yields study files that are none."""
    yield "study: a Python tag", _study(_GOOD + "title: !!python/name:os.system\n", r"s\.yaml:4")
    yield "study: a Python mapping", _study("!!python/object:os.X {name: s}\n", r"s\.yaml:1")
    yield "study: a key twice", _study(_GOOD + "name: t\n", r"s\.yaml:4")
    yield "study: an alias bomb", _study(bomb(), r"s\.yaml")
    yield "study: an anchor of itself", _study("name: &a [*a]\n", r"s\.yaml")
    yield "study: no UTF-8", _study(b"name: \xff\n", r"s\.yaml")
    yield "study: empty", _study("", r"s\.yaml")
    yield "study: a list", _study("- name\n", r"s\.yaml")
    yield (
        "study: a name twice, within",
        _study(_GOOD + "overrides: {a.b: 1, a.b: 2}\n", r"s\.yaml:4"),
    )
    yield "study: a date", _study(_GOOD + "title: 2026-01-01\n", "title")
    yield "study: nested deep", _study("[" * 5000 + "]" * 5000, r"s\.yaml")
    for text, says in {
        "tecniques: [kd]": "tecniques.*techniques",
        "techniques: [kdd]": "kdd",
        "replicates: []": "replicates",
        "replicates: [0]": "replicates",
        "replicates: [1, 1]": "replicates",
        "repeats: 0": "repeats",
        "seeds: [-1]": "seeds",
        "shadows: -1": "shadows",
        "threads_per_cell: 0": "threads_per_cell",
        "controls: [contrl]": "contrl",
        "audits: [membershp]": "membershp",
        "overrides: {data.bach: 3}": "bach",
        "title: 7": "title",
    }.items():
        yield f"study: {text}", _study(f"{_GOOD}{text}\n", says)
    yield "study: a name that climbs", _study(_GOOD.replace("name: s", "name: ../s"), "name")
    yield "study: no family", _study("name: s\ndata: builtin\nfamilies: []\n", "families")


def commands() -> Iterator[tuple[str, Attempt]]:
    """Yields options and folders."""
    own = {"s.yaml": _GOOD}
    run = ("kd-study", "run", "s.yaml")
    yield "study: no such file", Attempt(("kd-study", "plan", "none.yaml"), r"none\.yaml")
    yield "study: no such command", Attempt(("kd-study", "pla", "s.yaml"), "pla")
    yield "study: no command", Attempt(("kd-study",), "COMMAND")
    yield "study: workers 0", Attempt((*run, "--workers", "0"), "workers", own)
    yield "study: shard 3 of 2", Attempt((*run, "--shard", "3/2"), "3/2", own)
    yield "study: an option without a value", Attempt((*run, "--data.source"), "data.source", own)
    yield "study: an option without a dot", Attempt((*run, "--source", "x"), "source", own)
    yield "study: an option that is no YAML", Attempt((*run, "--data.seed", "[1"), "data.seed", own)
    yield (
        "study: an option with a key twice",
        Attempt((*run, "--data.splits", "{a: 1, a: 2}"), "data.splits.*twice", own),
    )
    yield (
        "study: a run folder that is a file",
        Attempt((*run, "--run_dir", "s.yaml"), "s.yaml", own),
    )
    yield "study: no such folder", Attempt((*run, "--run_dir", "/proc/no/s"), "/proc", own)
    colour = ("kd-study", "plan", "s.yaml", "--run_dir", "\x1b[31m")
    yield "study: a run folder of colour", Attempt(colour, "control character", own)
    for command in ("report", "claims"):
        yield f"study: {command} before a run", _study(_GOOD, "kd-study run", command)
        cut = {**own, "runs/s/plan.json": '{"cells": ['}
        yield (
            f"study: {command} of a plan cut short",
            Attempt(("kd-study", command, "s.yaml"), r"plan\.json", cut),
        )
