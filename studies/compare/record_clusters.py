"""Clusters and subjects of records, from the manifest that each run keeps of its split."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from common.keys import key
from datamodules.manifest import MANIFEST_NAME, read_manifest
from studies.plan.cells import Cell


def cluster_ids(clusters: Mapping[str, int] | None, records: pd.Index) -> NDArray[np.int64] | None:
    """Returns the clusters of records in the order given; None where they are not at hand."""
    if clusters is None:
        return None
    return np.array([clusters[record] for record in records], dtype=np.int64)


def record_clusters(cell: Cell) -> dict[str, int] | None:
    """Returns the number of each record's cluster, and each subject's, from the split's manifest.

    Clusters are found before records are dealt, and their number is a hash of their name, so a
    number means the same cluster in every split of a study.
    """
    if not has_manifest(cell):
        return None
    path = manifest_of(cell)
    return _clusters_in(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _clusters_in(manifest: Path, _changed: int) -> dict[str, int]:
    rows = read_manifest(manifest)
    numbers = {name: key(name) for name in {row.cluster for row in rows}}
    subjects = {
        f"subject {row.subject}": numbers[row.cluster] for row in rows if row.subject is not None
    }
    return subjects | {row.id: numbers[row.cluster] for row in rows}


def record_subjects(cell: Cell) -> dict[str, str]:
    """Returns the subject of each record that has one; none where no manifest is at hand."""
    if not has_manifest(cell):
        return {}
    rows = read_manifest(manifest_of(cell))
    return {row.id: f"subject {row.subject}" for row in rows if row.subject is not None}


def has_manifest(cell: Cell) -> bool:
    """Returns whether the manifest of a cell's split, which names the clusters, is at hand."""
    return manifest_of(cell).is_file()


def manifest_of(cell: Cell) -> Path:
    """Returns where the manifest of a cell's split lies where it is at hand."""
    return Path(cell.run_dir) / "private" / MANIFEST_NAME
