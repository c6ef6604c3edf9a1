"""A profile's figures are the library's, corrected over blocks; rows and scalars repeat them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audits.blocks.figures import evolution_figure, evolution_of, profile_figure
from audits.blocks.profile import (
    MeasuredSide,
    PermutedAreas,
    Profile,
    Reading,
    profile_of,
    relative_depth,
)
from audits.blocks.rows import BlockScoreRows, BlockSide, profile_rows, scalars
from audits.results import table_from_rows
from audits.statistics import auroc, auroc_over_draws, holm, reliability
from datamodules.records import InstructionRecord

N, M, BLOCKS = 40, 30, (0, 2, 5)


def sides() -> tuple[MeasuredSide, MeasuredSide]:
    # Clusters of two records.
    ids = (np.arange(N) // 2, np.arange(M) // 2 + 100)
    ours, theirs = (MeasuredSide(torch.empty(0), ["a"] * len(one), one) for one in ids)
    return ours, theirs


def readings(*, drawn: bool, directed: bool = True) -> tuple[Reading, Reading]:
    draw = np.random.default_rng(3)
    found = []
    for count, shift in ((N, np.array([0.1, 0.5, -0.9])), (M, np.zeros(3))):
        draws = draw.normal(size=(count, 3, 4)) + shift[:, None]
        kept = draws if drawn else None
        found.append(Reading("s", {"measure": "x"}, BLOCKS, draws.mean(axis=2), directed, kept))
    return found[0], found[1]


def profile(*, drawn: bool, directed: bool = True) -> Profile:
    return profile_of(*readings(drawn=drawn, directed=directed), *sides())


@pytest.mark.parametrize("drawn", [False, True])
def test_figures_of_blocks_are_the_librarys(drawn: bool) -> None:
    ours, theirs = readings(drawn=drawn)
    known = {
        "member_clusters": sides()[0].clusters,
        "nonmember_clusters": sides()[1].clusters,
    }
    found = [one for one in profile(drawn=drawn).figures if one.metric == "auroc"]
    assert [one.block for one in found] == list(BLOCKS)
    for place, one in enumerate(found):
        if ours.draws is not None and theirs.draws is not None:
            expected = auroc_over_draws(ours.draws[:, place], theirs.draws[:, place], **known)
        else:
            expected = auroc(ours.values[:, place], theirs.values[:, place], **known)
        assert (one.value, one.lower, one.upper) == (
            expected.value,
            expected.lower,
            expected.upper,
        )
    reliable = [one for one in profile(drawn=drawn).figures if one.metric == "reliability"]
    assert len(reliable) == (3 if drawn else 0)
    if ours.draws is not None and theirs.draws is not None:
        both = np.concatenate([ours.draws, theirs.draws])[:, 1]
        assert reliable[1].value == pytest.approx(reliability(both))


def test_p_values_are_corrected_over_blocks_and_two_sided_where_no_sign_was_said() -> None:
    def p_values(*, directed: bool) -> list[float]:
        figures = profile(drawn=False, directed=directed).figures
        return [one.p_value for one in figures if one.metric == "auroc" and one.p_value is not None]

    one_sided, two_sided = p_values(directed=True), p_values(directed=False)
    assert one_sided[2] == 1.0
    # The smallest of three is multiplied by three; none is below the fewest labellings can say.
    assert two_sided[2] == pytest.approx(3 / 2000, abs=1e-9)
    assert np.all(np.array(two_sided) <= 1.0)
    smallest = min(one_sided)
    assert smallest * 2000 == pytest.approx(round(smallest * 2000))
    assert round(smallest * 2000) % 3 == 0
    assert holm([smallest / 3, 1.0, 1.0])[0] == pytest.approx(smallest)


def test_one_block_has_nothing_to_differ_from() -> None:
    ours, theirs = (Reading("s", {}, (3,), one.values[:, :1]) for one in readings(drawn=False))
    assert [one.metric for one in profile_of(ours, theirs, *sides()).figures] == ["auroc"]


def records_of(name: str, n: int) -> list[InstructionRecord]:
    return [InstructionRecord(f"{name}{i}", "Say it.", "", "So.", "a", "test") for i in range(n)]


def test_rows_scores_and_scalars_repeat_the_profile() -> None:
    found = profile(drawn=True)
    ours, theirs = (
        BlockSide(name, records_of(name, len(one.tasks)), one.clusters, 2)
        for name, one in zip(("private", "held_out"), sides(), strict=True)
    )
    rows = profile_rows(found, ours, theirs, 6, True)
    identity = {"run": "r", "role": "student", "step": 3, "audit": "blocks"}
    assert table_from_rows("results", [{**identity, **row} for row in rows]).num_rows == len(rows)
    assert len(rows) == 3 + 3 + 3
    for row, figure in zip(rows, found.figures, strict=True):
        assert (row["block"], row["metric"], row["value"]) == (
            figure.block,
            figure.metric,
            figure.value,
        )
        assert (row["n_members"], row["n_nonmembers"], row["skipped"]) == (N, M, 4)
        assert row["params"] == {"measure": "x", "n_blocks": 6}
        assert row["shifted"] is True
    scores = BlockScoreRows(6)
    scores.add(found, ours, found.member_scores)
    listed = list(scores)
    assert len(listed) == len(scores) == N * 3
    assert (listed[4]["record"], listed[4]["block"]) == ("private1", 2)
    assert listed[4]["score"] == found.member_scores[1, 1]
    assert listed[4] in scores
    table_from_rows("scores", [{"run": "r", "step": 3, **row} for row in listed])
    scores.add_permuted(found, "private")
    assert len(scores) == N * 3, "only a signal that learns has permuted labellings"
    tags = scalars(found, "private")
    spread = next(one for one in found.figures if one.metric == "max_minus_min_corrected")
    assert tags == {"blocks/private/s/x/max_minus_min_corrected": spread.value}


def test_permuted_labellings_are_scores_of_their_own() -> None:
    permuted = PermutedAreas(("0000-a", "0001-b"), np.arange(6.0).reshape(2, 3))
    scores = BlockScoreRows(6)
    scores.add_permuted(replace(profile(drawn=False), permuted=permuted), "private")
    listed = list(scores)
    assert len(listed) == len(scores) == 6
    assert {row["population"] for row in listed} == {"private/permuted"}
    assert (listed[4]["record"], listed[4]["block"], listed[4]["score"]) == ("0001-b", 2, 4.0)
    table_from_rows("scores", [{"run": "r", "step": 3, **row} for row in listed])


def test_pictures_hold_every_reading_block_and_step() -> None:
    found = profile(drawn=False)
    drawn = profile_figure([found, found], "private against held_out")
    panels = [one for one in drawn.axes if one.axison]
    assert len(panels) == 2
    for panel in panels:
        (line,) = [one for one in panel.lines if len(one.get_xdata()) == 3]
        np.testing.assert_array_equal(line.get_xdata(), BLOCKS)
        np.testing.assert_array_equal(line.get_ydata(), [f.value for f in found.figures[:3]])
    rows = [
        {"name": "s", "params": {}, "metric": "auroc", "population": "private"}
        | {"block": block, "step": step, "value": step / 10 + block / 100}
        for step in (2, 1)
        for block in (0, 1)
    ]
    evolution = evolution_of([*rows, {**rows[0], "population": "public"}], "private")
    image = evolution_figure(evolution, "private").axes[0].images[0].get_array()
    np.testing.assert_allclose(image, [[0.1, 0.2], [0.11, 0.21]])


def test_labels_of_many_blocks_do_not_touch() -> None:
    rows = [
        {"name": "s", "params": {}, "metric": "auroc", "population": "private"}
        | {"block": block, "step": 1, "value": 0.5}
        for block in range(48)
    ]
    panel = evolution_figure(evolution_of(rows, "private"), "private").axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        str(block) for block in range(0, 48, 4)
    ]


def test_depth_lies_between_input_and_head() -> None:
    assert [relative_depth(block, 4) for block in range(4)] == [0.125, 0.375, 0.625, 0.875]
