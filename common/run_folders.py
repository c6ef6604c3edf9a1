"""The run behind a model that is named by what the run wrote."""

from collections.abc import Iterator
from pathlib import Path

_WRITTEN = frozenset({"export", "checkpoints", "adapter"})


def folders_behind(source: str) -> Iterator[Path]:
    """Yields the folder that a source names or lies in, and those above it up to its run's.

    Args:
        source: A run's folder, its export or checkpoint; of a hub's name nothing is there.
    """
    path = Path(source)
    folder = path.parent if path.is_file() else path
    yield folder
    while folder.name in _WRITTEN:
        folder = folder.parent
        yield folder
