"""Which students of a study differ in their objective alone, and which in their responses alone.

Techniques as published differ in several things at once, so that their comparison says nothing
about one of them. A factor is tested on students whose configurations are
the same in all else.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from common.fragments import CONFIG_NAME
from common.own_files import read_yaml
from studies.plan.cells import Cell

# Parts of `model.init_args` that make a factor's level.
FACTORS = {"objective": ("kd_loss", "reduction"), "student data": ("responses",)}
_PATHS = ("manifest_folder", "seed")


def design_of(students: Sequence[Cell], factor: str) -> dict[str, str] | str:
    """Returns the largest complete crossing of a factor's levels with all else, or why not.

    Args:
        students: Finished students of one family, size and replicate.
        factor: A name of `FACTORS`.

    Returns:
        The level of each technique in it.
    """
    rest: dict[str, dict[str, str]] = {}
    for cell in students:
        path = Path(cell.run_dir) / CONFIG_NAME
        if not path.is_file():
            return f"{cell.alias}: no {CONFIG_NAME}, which says how it was trained"
        config = read_yaml(path, f"delete {path.parent}, and the cell runs anew")
        level, others = _level(config, FACTORS[factor])
        rest.setdefault(others, {})[level] = str(cell.technique)
    best = max(_crossings(rest), key=lambda one: (one[0] * one[1], one[0]), default=None)
    if best is None:
        return f"no two students differ in their {factor} alone"
    _, _, levels, settings = best
    return {rest[setting][level]: _short(level) for level in levels for setting in settings}


def _crossings(
    rest: dict[str, dict[str, str]],
) -> Iterator[tuple[int, int, tuple[str, ...], list[str]]]:
    """Yields sets of two levels or more with the settings that have them all, and both counts."""
    known = sorted({level for levels in rest.values() for level in levels})
    for count in range(2, len(known) + 1):
        for levels in combinations(known, count):
            settings = [one for one, has in rest.items() if set(levels) <= set(has)]
            if settings:
                yield count, len(settings), levels, settings


def _level(config: dict[str, dict[str, object]], parts: Sequence[str]) -> tuple[str, str]:
    """Returns the level and everything else that may decide a student's risk, as JSON."""
    model, data = (_arguments(config, name) for name in ("model", "data"))
    level = {name: model.pop(name, None) for name in parts}
    data = {name: value for name, value in data.items() if name not in _PATHS}
    length = {name: config.get("trainer", {}).get(name) for name in ("max_epochs", "max_steps")}
    rest = {"model": model, "data": data, "trainer": length}
    return json.dumps(level, sort_keys=True), json.dumps(rest, sort_keys=True)


def _arguments(config: dict[str, dict[str, object]], name: str) -> dict[str, object]:
    arguments = config.get(name, {}).get("init_args", {})
    return dict(arguments) if isinstance(arguments, dict) else {}


def _short(level: str) -> str:
    """Returns a level in words: its class, and the options that tell it from its kind."""
    first, *others = json.loads(level).values()
    if others and isinstance(others[0], dict) and others[0].get("kd_ratio") == 0.0:
        return "cross-entropy"
    options = {name: one for name, one in (first.get("init_args") or {}).items() if one is not None}
    name = str(first["class_path"]).rpartition(".")[2]
    shown = ", ".join(f"{key} {one}" for key, one in options.items() if not isinstance(one, dict))
    return f"{name} ({shown})" if shown else name
