"""Records of several splits: which are decided, and that near-duplicates count once."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from datamodules.manifest import write_manifest
from datamodules.records import InstructionRecord
from datamodules.splits import Placement
from studies.compare.decomposition import decomposition_rows
from studies.compare.memorization import Accuracies
from studies.compare.record_clusters import record_clusters
from studies.plan.cells import Cell
from tests.studies.claims.tables import cell

REPLICATES = (1, 2, 3, 4)
# A record is private in every split but one, so three of four have met it: none has met all.
RECORDS = [f"record{i}" for i in range(24)]
CLUSTERS = {record: i // 2 for i, record in enumerate(RECORDS)}


def cells() -> list[Cell]:
    """A teacher and a student of kd with their counterfactuals, in every replicate."""
    roles = [("teacher", None), ("counterfactual_teacher", None)]
    roles += [("student", "kd"), ("counterfactual", "kd")]
    return [cell(role, technique, r) for r in REPLICATES for role, technique in roles]


def met(replicate: int) -> list[str]:
    return [record for record, i in CLUSTERS.items() if i % len(REPLICATES) != replicate - 1]


def accuracies(cells: list[Cell]) -> Accuracies:
    """Teachers and students produce the first third of the records, counterfactuals none."""
    values = {}
    for one in cells:
        own = met(one.replicate)
        leaks = one.role in ("teacher", "student")
        found = [float(leaks and CLUSTERS[record] < 4) for record in own]
        values[one.alias] = {"private": pd.Series(found, own), "never": pd.Series(dtype=float)}
    identities = {one.alias: dataclasses.asdict(one) for one in cells}
    clusters = {one.alias: {r: CLUSTERS[r] for r in met(one.replicate)} for one in cells}
    return Accuracies(tuple(cells), {"tokens": 32}, values, identities, clusters)


def test_records_that_one_split_has_not_met_are_decided_by_the_others() -> None:
    rows = list(decomposition_rows(accuracies(cells())))
    inherited = next(row for row in rows if row["metric"] == "inherited")
    assert inherited["n_members"] == len(RECORDS)
    # 12 pairs of near-duplicates, 4 of them inherited: 12 units, not 24.
    over_pairs = stats.binomtest(4, 12).proportion_ci(method="exact")
    found = (inherited["value"], inherited["lower"], inherited["upper"])
    assert found == pytest.approx((1 / 3, over_pairs.low, over_pairs.high), rel=0.01)


def test_the_teachers_of_an_ensemble_are_one_seed() -> None:
    """Two splits with two teachers each are no four seeds, as which every record was decided."""
    two = [one for one in cells() if one.replicate in (1, 2)]
    second = [
        dataclasses.replace(one, id=f"{one.id}-2", alias=f"{one.alias}-2")
        for one in two
        if one.role == "teacher"
    ]
    students = [
        dataclasses.replace(one, id=f"{one.id}-{s}", alias=f"{one.alias}-{s}", seed=one.seed + s)
        for one in two
        if one.role in ("student", "counterfactual")
        for s in (10_000, 20_000)
    ]
    rows = list(decomposition_rows(accuracies([*two, *second, *students])))
    inherited = next(row for row in rows if row["metric"] == "inherited")
    params = inherited["params"]
    assert isinstance(params, dict)
    assert (params["teacher_seeds"], params["student_seeds"]) == (2, 6)
    assert inherited["n_members"] == 0


def test_a_cluster_has_one_number_in_all_splits(tmp_path: Path) -> None:
    numbers = []
    for replicate in REPLICATES[:2]:
        own = [record for record in RECORDS if CLUSTERS[record] % 4 != replicate - 1]
        placements = [
            Placement(
                InstructionRecord(record, "", "", record, "open_qa", ""),
                **{"content": record, "split": "private", "role": "audit"},
                **{"cluster": f"cluster{CLUSTERS[record]}", "coin": None, "part": None},
            )
            for record in own
        ]
        folder = tmp_path / str(replicate)
        write_manifest(placements, folder / "private")
        found = record_clusters(cell("student", "kd", replicate, str(folder)))
        assert found is not None
        assert len(set(found.values())) == len({CLUSTERS[record] for record in own})
        numbers.append(found)
    common = numbers[0].keys() & numbers[1].keys()
    assert len(common) == 12
    assert all(numbers[0][record] == numbers[1][record] for record in common)
