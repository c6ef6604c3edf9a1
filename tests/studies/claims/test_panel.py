"""Figures by replicate and column, and what is not there."""

import numpy as np
import pytest

from studies.claims.panel import panel_of


def test_seeds_are_averaged_and_a_missing_figure_is_kept_as_missing() -> None:
    entries = [(2, "b", 0.4), (1, "a", 0.1), (1, "a", 0.3), (1, "b", 0.5), (2, "a", "x: failed")]
    panel = panel_of([*entries, (2, "a", 0.9)])
    assert (panel.columns, panel.replicates) == (("b", "a"), (1, 2))
    assert panel.values[0] == pytest.approx([0.5, 0.2])
    # A mean over one seed of two is not the planned figure.
    assert np.isnan(panel.values[1, 1])
    assert panel.missing == ("x: failed",)
    assert panel.complete == (1,)
    assert panel.sample() is None


def test_a_reason_without_a_column_makes_its_replicate_incomplete() -> None:
    figures = [(r, name, 0.1 * r) for r in (1, 2, 3) for name in "ab"]
    panel = panel_of([*figures, (2, "", "y: pending")])
    assert panel.columns == ("a", "b")
    assert panel.complete == (1, 3)
    assert panel.missing == ("y: pending",)
    sample = panel.sample()
    assert sample is not None
    assert sample.means == pytest.approx([0.2, 0.2])


def test_a_panel_without_columns_has_no_complete_replicate() -> None:
    panel = panel_of([(1, "", "z: pending")])
    assert panel.complete == ()
    assert panel.restricted([]).sample() is None
