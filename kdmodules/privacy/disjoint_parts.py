"""Whether teachers met disjoint parts of the private split, by what their runs say."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from common.fragments import CONFIG_NAME
from common.own_files import read_yaml
from common.run_folders import folders_behind

_SPLIT_OPTIONS = ("source", "n_records", "builtin_seed", "max_rows", "splits")
"""Options of the data that decide which cluster falls to which part."""


def doubts_about_parts(teachers: Sequence[str]) -> tuple[str, ...]:
    """Returns why it is not known that no two teachers met records of one cluster; none if it is.

    Args:
        teachers: Their folders or checkpoints, which lie in the folders of their runs.
    """
    runs = {source: configuration_behind(source) for source in teachers}
    unknown = [source for source, run in runs.items() if run is None]
    if unknown or len(runs) < len(teachers):
        same = [f"{source} is there twice" for source in runs if teachers.count(source) > 1]
        return (*(f"nothing tells what {source} was trained on" for source in unknown), *same)
    data = {source: _options(run, "data") for source, run in runs.items()}
    found = []
    for source, options in data.items():
        if len(teachers) > 1 and options.get("private_part") is None:
            found.append(f"{source} met the whole private split")
        start = _start(runs[source])
        if start is not None and not _met_public_records_alone(start):
            found.append(f"nothing tells what the start of {source}, {start}, was trained on")
    for one, other in combinations(teachers, 2):
        if any(data[one].get(name) != data[other].get(name) for name in _SPLIT_OPTIONS):
            found.append(f"{one} and {other} met parts of different splits")
        elif data[one].get("private_part") == data[other].get("private_part"):
            found.append(f"{one} and {other} met the same part")
    return tuple(found)


def doubts_about_public(model: str, source: str | None) -> tuple[str, ...]:
    """Returns why it is not known that a model met no private record; none if it is.

    Args:
        model: What it is called.
        source: Its folder or checkpoint in the folder of its run, or a hub's name; None is random
            weights.
    """
    if source is None or _met_public_records_alone(source):
        return ()
    return (f"nothing tells that {model}, {source}, met no private record",)


def configuration_behind(source: str) -> Mapping[str, Any] | None:
    """Returns the resolved configuration of the run that wrote a model; None where there is none.

    Raises:
        UserError: It is cut short, or none.
    """
    for folder in folders_behind(source):
        path = folder / CONFIG_NAME
        if path.is_file():
            return read_yaml(path, "train the run that wrote it again")
    return None


def _met_public_records_alone(source: str) -> bool:
    run = configuration_behind(source)
    if run is None:
        return not Path(source).exists()  # A hub's model is everybody's.
    start = _start(run)
    return _options(run, "model").get("split") == "public" and (
        start is None or _met_public_records_alone(start)
    )


def _options(run: Mapping[str, Any] | None, of: str) -> Mapping[str, Any]:
    section = (run or {}).get(of)
    given = section.get("init_args") if isinstance(section, dict) else None
    return given if isinstance(given, dict) else {}


def _start(run: Mapping[str, Any] | None) -> str | None:
    network = _options(run, "model").get("network")
    return network.get("source") if isinstance(network, dict) else None
