"""The page's section on blocks: profiles, their heat maps over techniques, and the tests."""

import json
from collections.abc import Iterator

import pandas as pd

from audits.blocks.profile import relative_depth
from studies.claims.verdict import BLOCK_MARGIN
from studies.compare.probe_differences import PROBE_DIFFERENCE
from studies.compare.shift import dealt_by_coins
from studies.report import block_charts as drawn
from studies.report.charts import Spec, label_colours
from studies.report.over_replicates import over_replicates
from studies.report.study_data import BLIND, ROLE_NAMES, StudyData

__all__ = [
    "PLACE",
    "block_charts",
    "block_entries",
    "block_rows",
    "block_sentences",
    "mean_profiles",
    "probe_rows",
]

_RELIABLE = 0.8
PLACE = ["block", "n_blocks", "depth"]
# What the audit says of the records' texts before it says anything of blocks.
_OF_THE_TEXTS = (BLIND, "balance")
_SIGNALS = {
    "logit_lens": "Logit lens",
    "tuned_lens": "Tuned lens",
    "residual_norm": "Residual update",
    "hidden_probe": "Hidden-state probe",
    "block_grad_norm": "Gradient norm",
    "block_mope": "MoPe",
    "attribution": "Attribution",
    "block_swap": "Block swap",
}


def block_rows(data: StudyData) -> pd.DataFrame:
    """Returns the block audits' rows of private records with `signal`, `depth` and `n_blocks`.

    They stand by model, signal and block.
    """
    rows = data.rows(audit="blocks", population="private", task=None, run_b=None)
    rows = _placed(rows[~rows["name"].isin(_OF_THE_TEXTS)])
    names = list(dict.fromkeys([*_SIGNALS, *rows["name"]]))
    runs = [cell.alias for cell in data.cells]
    order = {"_run": rows["run"].map(runs.index), "_name": rows["name"].map(names.index)}
    by = [*order, "signal", "block"]
    return rows.assign(**order).sort_values(by).drop(columns=list(order))


def probe_rows(data: StudyData) -> pd.DataFrame:
    """Returns what probes find in a model beyond another, with `compared`, the other's role."""
    rows = _placed(data.rows(audit="blocks", population="private", metric=PROBE_DIFFERENCE))
    roles = {cell.alias: ROLE_NAMES[cell.role] for cell in data.cells}
    return rows.assign(compared="Minus its " + rows["run_b"].map(roles).str.lower())


def _placed(rows: pd.DataFrame) -> pd.DataFrame:
    params = [json.loads(text) for text in rows["params"]]
    n_blocks = [int(one["n_blocks"]) for one in params]
    return rows.assign(
        signal=[_signal(name, one) for name, one in zip(rows["name"], params, strict=True)],
        n_blocks=n_blocks,
        depth=[
            relative_depth(block, of) for block, of in zip(rows["block"], n_blocks, strict=True)
        ],
    )


def block_charts(data: StudyData) -> dict[str, Spec]:
    """Returns the profiles and a heat map of every signal, and probes' differences, if measured."""
    rows = block_rows(data)
    rows = mean_profiles(data, rows[(rows["metric"] == "auroc") & rows["value"].notna()])
    colours = label_colours(data, data.kinds)
    specs = {}
    if len(rows):
        signals = list(dict.fromkeys(rows["signal"]))
        specs["block_profiles"] = drawn.profiles(rows, signals, colours)
        specs["block_heat"] = drawn.heat_maps(rows, signals)
    probes = probe_rows(data)
    probes = over_replicates(data, probes[probes["value"].notna()], ["compared", "params", *PLACE])
    if len(probes):
        compared = list(dict.fromkeys(probes["compared"]))
        specs["block_probes"] = drawn.probe_differences(probes, compared, colours)
    return specs


def mean_profiles(data: StudyData, rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of blocks as means over replicates, where there are several."""
    return over_replicates(data, rows, ["role", "signal", "params", *PLACE])


def block_entries(data: StudyData) -> list[tuple[str, str, bool]]:
    """Returns the legend of the section: label, colour and whether its line is dashed."""
    shown = set(block_rows(data)["run"].map(data.kinds))
    colours = label_colours(data, data.kinds)
    return [(label, c, dash != [1, 0]) for label, (c, dash) in colours.items() if label in shown]


def block_sentences(data: StudyData) -> list[str]:
    """Returns what the section says in words: shift, limits, tests, reliability, calibration."""
    rows = block_rows(data)
    if not len(rows):
        return []
    return [
        *_shifted(data, rows),
        "A block's AUROC says how well an attacker does who reads or disturbs that block, not "
        "where a record is stored.",
        *_differences(rows),
        *_unreliable(data, rows),
        *_calibration(rows),
        *_probes(data),
    ]


def _signal(name: str, params: dict[str, object]) -> str:
    shown = _SIGNALS.get(name, name)
    if "measure" in params:
        shown += ", " + str(params["measure"]).replace("_x_", " × ").replace("_", " ")
    return f"{shown}, one sign" if params.get("antithetic") is False else shown


def _shifted(data: StudyData, rows: pd.DataFrame) -> Iterator[str]:
    """Yields what a reader must know first: whether the texts alone tell the record sets apart.

    Nothing where coins dealt them: what the texts tell is then luck, which every interval counts.
    """
    if dealt_by_coins(data.results, rows["run"].unique()):
        return
    found = rows[rows["shifted"].eq(True)]
    if len(found):
        yield (
            "Shifted data: the texts alone tell private from held-out records "
            f"({', '.join(found['label'].unique())}). Their blocks measure the records, not the "
            "model."
        )
    elif rows["shifted"].isna().any():
        yield (
            "That the texts alone tell private from held-out records is not excluded; whatever "
            "they give away, every block shows too."
        )


def _differences(rows: pd.DataFrame) -> Iterator[str]:
    """Yields the tested statement, about these weights."""
    tests = rows[(rows["metric"] == "max_minus_min") & rows["lower"].notna()]
    if len(tests):
        large = tests.assign(large=tests["lower"] > BLOCK_MARGIN)
        counts = large.groupby("signal", sort=False)["large"].agg(["sum", "size"])
        each = "; ".join(f"{name} {own['sum']} of {own['size']}" for name, own in counts.iterrows())
        yield (
            "Blocks differ by a large margin (the lower end of the simultaneous 95% interval of "
            f"max − min lies above {BLOCK_MARGIN}) in this many models, each conditional on its "
            f"weights: {each}."
        )


def _unreliable(data: StudyData, rows: pd.DataFrame) -> Iterator[str]:
    """Yields one line on what weight noise says too shakily, models of the same blocks together."""
    every = rows[rows["metric"] == "reliability"]
    found = every[~(every["value"] >= _RELIABLE)]
    if not len(found):
        return
    if data.replicated:
        each = [
            f"{signal} at block {block:.0f} of {len(own)} of "
            f"{((every['signal'] == signal) & (every['block'] == block)).sum()} models"
            for (signal, block), own in found.groupby(["signal", "block"])
        ]
    else:
        models: dict[tuple[str, str], list[str]] = {}
        for (signal, label), own in found.groupby(["signal", "label"], sort=False):
            models.setdefault((str(signal), _places(own)), []).append(str(label))
        each = [f"{signal} at {at} of {', '.join(of)}" for (signal, at), of in models.items()]
    yield (
        f"Not to be ranked, as the reliability over draws is below {_RELIABLE}: {'; '.join(each)}."
    )


def _places(rows: pd.DataFrame) -> str:
    blocks = sorted(rows["block"].unique())
    if len(blocks) == rows["n_blocks"].max():
        return "every block"
    return f"block{'s' * (len(blocks) > 1)} " + ", ".join(f"{block:.0f}" for block in blocks)


def _calibration(rows: pd.DataFrame) -> Iterator[str]:
    """Yields how far the tuned lens is from the models' own predictions, at its worst block."""
    worst = {
        metric: rows.loc[rows["metric"] == metric].groupby("run")["value"].max()
        for metric in ("kl_tuned", "kl_plain")
    }
    if len(worst["kl_tuned"]):
        tuned, plain = (
            " to ".join(dict.fromkeys(f"{one:.3g}" for one in (own.min(), own.max())))
            for own in worst.values()
        )
        yield (
            "The tuned lens's translators are fitted on development text. At the worst block of a "
            f"model KL(model ‖ lens) is {tuned} nats per token there, and {plain} without them."
        )


def _probes(data: StudyData) -> Iterator[str]:
    rows = probe_rows(data)
    if len(rows):
        beyond = rows.loc[rows["lower"] > 0, ["run", "run_b"]].drop_duplicates()
        pairs = len(rows[["run", "run_b"]].drop_duplicates())
        yield (
            "A probe of hidden states reads the text as well as the model and learns its own sign. "
            "What the text gives away is told in any model: read a probe by its difference. A "
            "counterfactual that met the held-out records in place of the private ones is told as "
            "well as a student, so that their difference hides a leak that both have; a control "
            f"met neither. Some block's interval lies above 0 in {len(beyond)} of {pairs} pairs."
        )
