"""Whether teachers met disjoint parts of the private split, and others no private record, by what
their runs say."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from common.fragments import CONFIG_NAME
from common.own_files import read_yaml
from common.run_folders import folders_behind

_SOURCE = ("source", "hub_split", "builtin_seed")
_CHOSEN = ("n_records", "default_task", "columns", "max_rows", "select")
_SPLIT_OPTIONS = (*_SOURCE, *_CHOSEN, "splits")
"""Options of the data that decide which cluster falls to which part."""
_MOVES_NO_PUBLIC_RECORD = ("caps", "roles", "min_records", "private_parts", "shadow")
"""Options of splits that make no record of the pool public, nor the other way."""


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
        model = _options(runs[source], "model")
        if "teacher" in model or model.get("split") == "held_out":
            found.append(f"{source} met more than a part of the private split")
        elif len(teachers) > 1 and options.get("private_part") is None:
            found.append(f"{source} met the whole private split")
        for start in starts_of(runs[source]):
            if not _met_public_records_alone(start, [options]):
                found.append(f"nothing tells what the start of {source}, {start}, was trained on")
    for one, other in combinations(teachers, 2):
        if any(data[one].get(name) != data[other].get(name) for name in _SPLIT_OPTIONS):
            found.append(f"{one} and {other} met parts of different splits")
        elif data[one].get("private_part") == data[other].get("private_part"):
            found.append(f"{one} and {other} met the same part")
    return tuple(found)


def doubts_about_public(
    model: str, source: str | None, teachers: Sequence[str] = ()
) -> tuple[str, ...]:
    """Returns why it is not known that a model met no private record; none if it is.

    Args:
        model: What it is called.
        source: Its folder or checkpoint in the folder of its run, or a hub's name; None is random
            weights.
        teachers: Folders or checkpoints of those whose private records are meant.
    """
    beside = [data_behind(teacher) for teacher in teachers]
    if source is None or _met_public_records_alone(source, beside):
        return ()
    return (f"nothing tells that {model}, {source}, met no private record",)


def doubts_about_split(folder: str, teachers: Sequence[str]) -> tuple[str, ...]:
    """Returns why public records of a run may be private ones of its teachers; none if they are
    not, or nothing is known of either.

    Args:
        folder: The run's.
        teachers: Folders or checkpoints in the folders of their runs.
    """
    own = data_behind(folder)
    return tuple(
        f"{teacher} was trained under another split, so that public records may be private there"
        for teacher in teachers
        if deals_otherwise(own, data_behind(teacher))
    )


def deals_otherwise(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether public records under one run's options of the data may be private under another's.

    Args:
        one: As `data_behind` has them; of runs without any, nothing is said.
        other: The same.
    """
    if not one or not other or any(one.get(name) != other.get(name) for name in _SOURCE):
        return False
    return _dealt_by(one) != _dealt_by(other)


def _dealt_by(options: Mapping[str, Any]) -> dict[str, Any]:
    splits = options.get("splits") or {}
    kept = {name: splits[name] for name in splits if name not in _MOVES_NO_PUBLIC_RECORD}
    return {**{name: options.get(name) for name in _CHOSEN}, "splits": kept}


def of_one_run(source: str, other: str) -> bool:
    """Whether two sources are the folder, export or checkpoints of one run."""
    one, another = (list(folders_behind(name))[-1].resolve() for name in (source, other))
    return one == another


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


def data_behind(source: str) -> Mapping[str, Any]:
    """Returns the options of the data of the run that wrote a model; empty where none are known."""
    return _options(configuration_behind(source), "data")


def starts_of(run: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Returns where the first weights of a run came from; nothing where they were random."""
    network = _options(run, "model").get("network")
    given = network if isinstance(network, dict) else {}
    named = (given.get(name) for name in ("source", "adapter_base"))
    return tuple(source for source in named if source is not None)


def _met_public_records_alone(source: str, beside: Sequence[Mapping[str, Any]] = ()) -> bool:
    """Whether a model met public records alone, of the split that other data are dealt by."""
    run = configuration_behind(source)
    if run is None:
        return not Path(source).exists()  # A hub's model is everybody's.
    own = _options(run, "data")
    return (
        _options(run, "model").get("split") == "public"
        and not any(deals_otherwise(own, other) for other in beside)
        and all(_met_public_records_alone(start, beside) for start in starts_of(run))
    )


def _options(run: Mapping[str, Any] | None, of: str) -> Mapping[str, Any]:
    section = (run or {}).get(of)
    given = section.get("init_args") if isinstance(section, dict) else None
    return given if isinstance(given, dict) else {}
