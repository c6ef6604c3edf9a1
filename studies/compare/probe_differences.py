"""Rows that tell what a probe of hidden states finds in a model beyond its counterfactual.

A probe reads the text as well as the model. What the text gives away, the counterfactual's probe
finds too, at the same block and on the same folds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from audits.blocks.probe import joint_p_values
from audits.blocks.rows import PERMUTED
from audits.blocks.signals import HiddenProbe
from audits.statistics.clusters import critical_value
from studies.compare.comparisons import Row, comparison_pairs, run_identities
from studies.plan.cells import Cell

PROBE_DIFFERENCE = "probe_difference"
_POPULATION = "private"
_QUANTILE = critical_value(0.05)


@dataclass(frozen=True)
class _Probes:
    """The probes of a run under one set of parameters.

    Attributes:
        rows: Their rows of the results table, by block.
        permuted: AUROC by permuted labelling and block; [P, L].
    """

    rows: pd.DataFrame
    permuted: pd.DataFrame


def probe_difference_rows(
    done: Sequence[Cell], results: pa.Table, scores: pd.DataFrame
) -> Iterator[Row]:
    """Yields `probe_difference` at every block: the probe's AUROC in a run minus that in `run_b`.

    The 95% interval is 1.96 standard deviations of the same difference under permuted labels, to
    which both probes were fitted anew; p-values are two-sided, by the largest standardised
    difference over blocks. Where the two runs did not probe the same records on the same folds,
    the rows are there without a value.

    Args:
        done: The finished cells.
        results: Their results.
        scores: Their scores table, which holds the permuted labellings.
    """
    found = _probes(results.to_pandas(), scores)
    identities = run_identities(results)
    for cell, other in comparison_pairs(done):
        theirs = found.get(other.alias, {})
        for params, ours in found.get(cell.alias, {}).items():
            if params not in theirs:
                continue
            common = {
                **identities[cell.alias],
                **{"audit": "blocks", "population": _POPULATION, "run_b": other.alias},
                **{"name": HiddenProbe.name, "params": params, "metric": PROBE_DIFFERENCE},
            }
            for row in _difference(ours, theirs[params]):
                yield common | row


def _probes(results: pd.DataFrame, scores: pd.DataFrame) -> Mapping[str, Mapping[str, _Probes]]:
    """Returns the probes of every run at its last block audit, by run and parameters."""
    last = results[results["audit"] == "blocks"].groupby("run")["step"].max()
    rows, permuted = (
        table[
            (table["name"] == HiddenProbe.name)
            & (table["step"] == table["run"].map(last))
            & (table["population"] == population)
        ]
        for table, population in ((results, _POPULATION), (scores, _POPULATION + PERMUTED))
    )
    areas = rows[rows["metric"].eq("auroc") & rows["run_b"].isna()]
    nulls = {
        key: own.pivot(index="record", columns="block", values="score")
        for key, own in permuted.groupby(["run", "params"])
    }
    found: dict[str, dict[str, _Probes]] = {}
    for key, own in areas.groupby(["run", "params"]):
        if key in nulls:
            run, params = key
            found.setdefault(str(run), {})[str(params)] = _Probes(
                own.astype({"block": int}).set_index("block").sort_index(),
                nulls[key].sort_index(),
            )
    return found


def _difference(ours: _Probes, theirs: _Probes) -> Iterator[Row]:
    """Yields the columns of every block's difference; counts alone where folds are not the same."""
    estimates = _estimates(ours, theirs)
    for block, row in ours.rows.iterrows():
        counts = {name: int(row[name]) for name in ("n_members", "n_nonmembers", "skipped")}
        shifted = None if pd.isna(row["shifted"]) else bool(row["shifted"])
        shared: Row = {"block": block, "step": int(row["step"]), "shifted": shifted}
        yield shared | counts | estimates.get(block, {})


def _estimates(ours: _Probes, theirs: _Probes) -> Mapping[object, Row]:
    """Returns value, interval and p-value by block."""
    if not ours.permuted.index.equals(theirs.permuted.index):
        return {}
    values = (ours.rows["value"] - theirs.rows["value"]).to_numpy(dtype=np.float64)
    permuted = (ours.permuted - theirs.permuted).to_numpy(dtype=np.float64)
    reach = _QUANTILE * permuted.std(axis=0, ddof=1)
    p_values = joint_p_values(values, permuted, directed=False)
    return {
        block: {
            "value": float(value),
            "lower": max(-1.0, float(value - half)),
            "upper": min(1.0, float(value + half)),
            "p_value": float(p),
        }
        for block, value, half, p in zip(ours.rows.index, values, reach, p_values, strict=True)
    }
