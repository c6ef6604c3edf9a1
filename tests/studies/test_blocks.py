"""The page's section on blocks says what the tables say, and what it must not be taken for."""

import json
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from callbacks.blocks.profile import MeasuredSide, Reading, profile_of
from callbacks.blocks.rows import BlockSide, profile_rows
from callbacks.results import Row, merge_parts, write_part
from studies.plan import Plan
from studies.report.blocks import block_charts, block_rows, block_sentences, block_table
from studies.report.study_data import StudyData, read_study_data
from studies.tables import write_study_tables

OUT, RECORDS = Path("runs/small"), 60
SHIFTS = {"teacher": (0.2, 0.4, 2.5), "student": (0.3, 0.3)}


@cache
def audit_rows(role: str) -> list[Row]:
    """A block audit: noisy draws, and a reading without any."""
    draw = np.random.default_rng(0)
    shifts = np.array(SHIFTS.get(role, (0.0, 0.0)))
    blocks = tuple(range(len(shifts)))
    clusters = (np.arange(RECORDS), np.arange(RECORDS, 2 * RECORDS))
    names = ["a"] * RECORDS
    sides = [
        BlockSide(population, names, names, ids, 0)
        for population, ids in zip(("private", "held_out"), clusters, strict=True)
    ]
    measured = [MeasuredSide(torch.empty(0), names, ids) for ids in clusters]
    found: list[Row] = []
    for name, params, noise in (
        ("block_mope", {"draws": 3, "antithetic": True}, 3.0),
        ("residual_norm", {"measure": "norm"}, 0.0),
    ):
        readings = []
        for shift in (shifts, 0 * shifts):
            values = draw.normal(size=(RECORDS, len(blocks))) + shift
            draws = values[:, :, None] + noise * draw.normal(size=(*values.shape, 3))
            means = draws.mean(axis=2)
            readings.append(
                Reading(name, dict(params), blocks, means, draws=draws if noise else None)
            )
        profile = profile_of(*readings, *measured)
        found += profile_rows(profile, *sides, len(blocks))
    return found


@pytest.fixture
def data(finished: Plan, planted: ModuleType) -> StudyData:
    """A finished study with block audits."""
    for cell in finished.cells:
        identity = {"run": cell.alias, "role": cell.role, "seed": cell.seed, "step": planted.STEP}
        rows = [{**identity, "audit": "blocks", **row} for row in audit_rows(cell.role)]
        write_part(cell.run_dir, "results", planted.STEP, "blocks", rows)
        merge_parts(cell.run_dir)
    write_study_tables(finished, OUT)
    return read_study_data(finished, OUT)


def test_the_table_holds_every_block_of_every_run(data: StudyData) -> None:
    table = block_table(data)
    counts = table.frame.groupby("run").size()
    for cell in data.cells:
        assert counts[cell.alias] == 2 * len(SHIFTS.get(cell.role, (0, 0)))
    teacher = table.frame[table.frame["run"] == data.cells[0].alias]
    assert sorted(set(teacher["depth"].round(3))) == [0.167, 0.5, 0.833]
    assert set(table.frame["signal"]) == {"MoPe", "Residual update, norm"}
    source = block_rows(data)
    source = source[source["metric"] == "auroc"]
    np.testing.assert_array_equal(table.frame["value"], source["value"])
    assert [cell.text for cell in table.rows[0][:3]] == ["Teacher", "MoPe", "0 of 3"]


def test_the_charts_hold_the_tables_figures(data: StudyData) -> None:
    specs = block_charts(data)
    assert set(specs) == {"block_heat", "block_profiles"}
    for spec in specs.values():
        (drawn,) = [rows for rows in spec["datasets"].values() if len(rows) > 1]
        assert sorted(row["value"] for row in drawn) == sorted(block_table(data).frame["value"])
        assert "http" not in json.dumps(spec)
    (cells,) = specs["block_heat"]["datasets"].values()
    assert {round(row["right"] - row["left"], 6) for row in cells} == {0.5, round(1 / 3, 6)}


def test_the_sentences_test_and_limit(data: StudyData) -> None:
    limit, *rest = block_sentences(data)
    assert "not where a record is stored" in limit
    n_teachers = sum(cell.role == "teacher" for cell in data.cells)
    (norm,) = [text for text in rest if text.startswith("Residual update, norm: blocks differ")]
    assert f"in {n_teachers} of {len(data.cells)} models" in norm
    assert "each conditional on its weights" in norm
    shaky = [text for text in rest if "not to be ranked" in text]
    assert len(shaky) == len(data.cells)


def test_a_study_without_block_audits_has_no_section(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    without = read_study_data(finished, OUT)
    assert (block_sentences(without), block_charts(without)) == ([], {})
