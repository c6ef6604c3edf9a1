"""The page's section on blocks says what the tables say, and what it must not be taken for."""

import json
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from audits.blocks.profile import MeasuredSide, Reading, profile_of
from audits.blocks.rows import BlockSide, profile_rows
from audits.results import Row, merge_parts, write_part
from datamodules.records import InstructionRecord
from studies.compare.tables import write_study_tables
from studies.plan.cells import Plan
from studies.report.block_figures import block_rows
from studies.report.page import write_report
from studies.report.parts import Legend, Text
from studies.report.sections.blocks import block_sentences, blocks
from studies.report.sections.probes import probes
from studies.report.study_data import StudyData, read_study_data

OUT, RECORDS = Path("runs/small"), 60
SHIFTS = {"teacher": (0.2, 0.4, 2.5), "student": (0.3, 0.3)}
SIGNALS = ["Residual update, norm", "Hidden-state probe", "MoPe"]
VERDICTS = {"teacher": True, "student": False}


@cache
def audit_rows(role: str) -> list[Row]:
    """A block audit: noisy draws, and a reading without any."""
    draw = np.random.default_rng(0)
    verdict = VERDICTS.get(role)
    shifts = np.array(SHIFTS.get(role, (0.0, 0.0)))
    blocks = tuple(range(len(shifts)))
    clusters = (np.arange(RECORDS), np.arange(RECORDS, 2 * RECORDS))
    names = ["a"] * RECORDS
    record = InstructionRecord("a", "Say it.", "", "So.", "a", "test")
    sides = [
        BlockSide(population, [record] * RECORDS, ids, 0)
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
        found += profile_rows(profile, *sides, len(blocks), verdict)
    # What the audit says of the texts is no figure of a block.
    texts = {"population": "private", "name": "blind", "metric": "auroc", "value": 0.52}
    lens = {**texts, "name": "tuned_lens", "params": {"measure": "gain", "n_blocks": len(blocks)}}
    calibration = [
        {**lens, "metric": metric, "block": block, "value": value - 0.01 * len(blocks)}
        for metric, values in (("kl_plain", (2.5, 0.5)), ("kl_tuned", (0.25, 0.125)))
        for block, value in enumerate(values)
    ]
    texts["shifted"] = verdict
    return [*found, *probe_rows_of(role, len(blocks)), *calibration, texts]


def probe_rows_of(role: str, n_blocks: int) -> list[Row]:
    """A probe's AUROCs, told by the model's role."""
    shared = {"population": "private", "name": "hidden_probe", "params": {"n_blocks": n_blocks}}
    counts = {"n_members": RECORDS, "n_nonmembers": RECORDS, "skipped": 0, "metric": "auroc"}
    level = {"student": 0.9, "teacher": 0.95}.get(role, 0.6)
    return [{**shared, **counts, "block": b, "value": level} for b in range(n_blocks)]


def permuted_rows(n_blocks: int) -> list[Row]:
    """AUROCs of permuted labellings, the same in every run but for their size."""
    draw = np.random.default_rng(n_blocks)
    shared = {"population": "private/permuted", "name": "hidden_probe"}
    return [
        {**shared, "params": {"n_blocks": n_blocks}, "record": f"{i:04d}", "block": block}
        | {"score": 0.5 + float(draw.normal(0, 0.03))}
        for i in range(199)
        for block in range(n_blocks)
    ]


@pytest.fixture
def data(finished: Plan, planted: ModuleType) -> StudyData:
    """A finished study with block audits."""
    for cell in finished.cells:
        identity = {"run": cell.alias, "role": cell.role, "seed": cell.seed, "step": planted.STEP}
        rows = [{**identity, "audit": "blocks", **row} for row in audit_rows(cell.role)]
        write_part(cell.run_dir, "results", planted.STEP, "blocks", rows)
        own = {"run": cell.alias, "step": planted.STEP}
        null = [{**own, **row} for row in permuted_rows(len(SHIFTS.get(cell.role, (0, 0))))]
        write_part(cell.run_dir, "scores", planted.STEP, "blocks", null)
        merge_parts(cell.run_dir)
    write_study_tables(finished, OUT)
    return read_study_data(finished, OUT)


def test_the_tables_hold_every_block_of_every_run_and_the_tests(data: StudyData) -> None:
    table = blocks(data).tables["blocks"]
    counts = table.frame.groupby("run").size()
    for cell in data.cells:
        assert counts[cell.alias] == 3 * len(SHIFTS.get(cell.role, (0, 0)))
    teacher = table.frame[table.frame["run"] == data.cells[0].alias]
    assert sorted(set(teacher["depth"].round(3))) == [0.167, 0.5, 0.833]
    assert list(dict.fromkeys(teacher["signal"])) == SIGNALS
    source = block_rows(data)
    source = source[source["metric"] == "auroc"]
    np.testing.assert_array_equal(table.frame["value"], source["value"])
    assert [cell.text for cell in table.rows[0][:3]] == ["Teacher", SIGNALS[0], "0 of 3"]
    table = blocks(data).tables["block_tests"]
    assert len(table.rows) == 2 * len(data.cells)
    rows = block_rows(data).set_index(["run", "signal", "metric"])
    for row, (_, own) in zip(table.rows, table.frame.iterrows(), strict=True):
        key = (own["run"], own["signal"])
        assert own["wald_p_value"] == rows.loc[(*key, "equal_blocks_wald"), "p_value"]
        assert own["corrected"] == rows.loc[(*key, "max_minus_min_corrected"), "value"]
        assert (row[2].text == "shown") is (own["lower"] > 0.05)
    assert {row[2].text for row in table.rows} == {"shown", "not shown"}


def test_the_charts_hold_the_tables_figures_and_the_probes_their_pairs(data: StudyData) -> None:
    section, probed = blocks(data), probes(data)
    specs, tables = section.charts | probed.charts, section.tables | probed.tables
    assert set(specs) == {"block_heat", "block_profiles", "block_probes"}
    for name, spec in specs.items():
        (drawn,) = [rows for rows in spec["datasets"].values() if len(rows) > 1]
        table = tables["block_probes" if name == "block_probes" else "blocks"]
        assert sorted(row["value"] for row in drawn) == sorted(table.frame["value"])
        assert "http" not in json.dumps(spec)
    (cells,) = specs["block_heat"]["datasets"].values()
    assert {round(row["right"] - row["left"], 6) for row in cells} == {0.5, round(1 / 3, 6)}
    (lines,) = specs["block_profiles"]["datasets"].values()
    banded = {row["label"] for row in lines if row["banded"]}
    roles = {data.labels[cell.alias]: cell.role for cell in data.cells}
    assert {roles[label] for label in banded} == {"teacher", "student"}
    (legend,) = [part for part in section.parts if isinstance(part, Legend)]
    assert {label for label, _, _ in legend.entries} == set(roles)
    table = tables["block_probes"]
    shown = {(row[0].text, row[1].text): row[3].text for row in table.rows}
    labels = {cell.role: data.labels[cell.alias] for cell in data.cells}
    assert shown[labels["student"], labels["counterfactual"]].startswith("0.300 [")
    assert (labels["student"], labels["control"]) in shown
    # A model of other depth has other parameters, and no difference.
    assert (labels["teacher"], labels["counterfactual_teacher"]) not in shown
    (text,) = [part.text for part in probed.parts if isinstance(part, Text)]
    assert "in 2 of 2" in text


def test_the_sentences_warn_test_and_limit(data: StudyData) -> None:
    shift, limit, tested, *rest = block_sentences(data, block_rows(data))
    assert shift.startswith("Shifted data")
    assert "(Teacher)" in shift
    assert "not where a record is stored" in limit
    n_teachers = sum(cell.role == "teacher" for cell in data.cells)
    assert f"Residual update, norm {n_teachers} of {len(data.cells)}" in tested
    assert "each conditional on its weights" in tested
    (shaky,) = [text for text in rest if text.startswith("Not to be ranked")]
    rows = block_rows(data)
    low = rows[(rows["metric"] == "reliability") & (rows["value"] < 0.8)]
    assert set(low["signal"]) == {"MoPe"}
    said = {}
    for part in shaky.partition(": ")[2].removesuffix(".").split("; "):
        places, _, labels = part.removeprefix("MoPe at ").partition(" of ")
        assert places not in said.values()
        said |= dict.fromkeys(labels.split(", "), places)
    n_blocks = rows.groupby("label")["n_blocks"].max()
    for label, own in low.groupby("label"):
        blocks = [f"{block:.0f}" for block in sorted(own["block"])]
        name = "blocks " if len(blocks) > 1 else "block "
        whole = len(blocks) == n_blocks[label]
        assert said.pop(label) == ("every block" if whole else name + ", ".join(blocks))
    assert not said
    (calibrated,) = [text for text in rest if text.startswith("The tuned lens")]
    # Models of three blocks and of two.
    assert "is 0.22 to 0.23 nats per token there, and 2.47 to 2.48 without" in calibrated


@pytest.mark.usefixtures("without_pictures")
def test_the_page_has_the_section_and_its_files(data: StudyData) -> None:
    page = write_report(data.plan, OUT).read_text()
    section = page[page.index('<section id="blocks"') : page.index("<h2>By attacker")]
    for name in ("block_profiles", "block_heat", "block_probes"):
        assert f'data-spec="{name}"' in section
    assert "Shifted data" in section
    for name, table in (blocks(data).tables | probes(data).tables).items():
        assert (OUT / "report" / "tables" / f"{name}.csv").read_text() == table.csv()


def test_a_study_without_block_audits_has_no_section(finished: Plan) -> None:
    write_study_tables(finished, OUT)
    without = read_study_data(finished, OUT)
    assert not blocks(without).parts
    assert not probes(without).shown
