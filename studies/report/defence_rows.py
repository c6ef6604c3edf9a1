"""Rows of the frontier: every teacher and student with its risk, utility, ceiling and guarantee."""

import json
from collections.abc import Callable, Hashable, Mapping

import numpy as np
import pandas as pd

from audits.guarantee import AUDIT, Channel, guarantee_of
from audits.membership.ceiling_rows import AUROC_UPPER, CEILING_PARAMS, UNIT_AUROC
from audits.membership.epsilon_rows import BOUND_PARAMS
from audits.results import params_json
from audits.rows import Audit
from common.guarantee import Guarantee
from studies.claims.figures import GAP_PARAMS
from studies.plan.cells import Cell
from studies.plan.stages import INIT_OPTION, TEACHER_OPTION
from studies.report.repeated_runs import records
from studies.report.study_data import StudyData

UNDEFENDED = "none"
MEASURES = ("perplexity", "rouge_l_f1", "teacher_kl")
VACUOUS = 0.99
"""Ceiling of an AUROC from which it says nothing."""
_NO, _UNKNOWN = "no", "unknown"
_TPR = "tpr_at_fpr_0.01"
_ROLES = ("teacher", "student", "control")


def defence_rows(data: StudyData) -> pd.DataFrame:
    """Returns a row per run whose AUROC under the primary attack was measured.

    Columns beside those of the AUROC: `kind` and `replicate`, `defence`, `technique`, the utility
    `MEASURES`, `tpr`, `gap`, `epsilon_lower`, `mu_lower`, `auroc_upper`, `tpr_upper`, `unit_lower`
    (lower end of the AUROC that was measured on units), `accuracy_upper` (bound by information, of
    students that read their teacher's text alone), `guarantee` in one line, empty without, and
    whether it `holds`, and whether its teacher `learnt` more than the public start that it was
    trained from: yes, no or unknown. What was not measured is null.
    """
    cells = {cell.alias: cell for cell in data.cells}
    rows = data.primary_rows()
    rows = rows[rows["run"].isin([alias for alias in cells if cells[alias].role in _ROLES])]
    told = {alias: _guarantee(data, alias) for alias in rows["run"]}
    learnt = {alias: _learnt(data, cells[alias]) for alias in rows["run"]}
    return rows.assign(
        kind=rows["run"].map(data.kinds),
        replicate=rows["run"].map({alias: cell.replicate for alias, cell in cells.items()}),
        defence=rows["run"].map(lambda run: cells[run].defence or UNDEFENDED),
        technique=rows["run"].map(data.configured),
        guarantee=rows["run"].map({run: one.short if one else "" for run, one in told.items()}),
        holds=rows["run"].map({run: one is not None and one.holds for run, one in told.items()}),
        learnt=rows["run"].map(learnt),
        accuracy_upper=rows["run"].map(_bounded_text(data, cells)).astype(float),
        **{name: rows["run"].map(values) for name, values in _figures(data).items()},
    )


def _guarantee(data: StudyData, alias: str) -> Guarantee | None:
    own = data.rows(run=alias, audit=str(AUDIT))
    return guarantee_of(records(own))


def _figures(data: StudyData) -> dict[str, Mapping[str, float]]:
    """Returns figures by column and run."""
    whole = data.rows(task=None, block=None, run_b=None)
    private = whole[whole["population"].eq("private") & whole["audit"].eq(str(Audit.membership))]
    name, params = data.primary
    of_attack = private[private["name"] == name]
    options = of_attack["params"].map(json.loads)
    of_attack = of_attack[options.map(_own) == params]
    # One at delta 0 contradicts no guarantee at another delta.
    at_zero = options.map(lambda own: own.get("delta") == 0.0).astype(bool)
    at_delta = of_attack[~at_zero.reindex(of_attack.index)]
    gaps = whole[(whole["metric"] == "token_accuracy_gap") & (whole["params"] == GAP_PARAMS)]
    upper = f"tpr_upper_at_fpr_{_TPR.removeprefix('tpr_at_fpr_')}"
    found = {measure: _by_run(whole, measure) for measure in MEASURES}
    return found | {
        "gap": _by_run(gaps[gaps["population"] == "private"], "token_accuracy_gap"),
        "tpr": _by_run(of_attack, _TPR),
        "tpr_upper": _by_run(of_attack, upper),
        "auroc_upper": _by_run(of_attack, AUROC_UPPER),
        "unit_lower": _by_run(of_attack, UNIT_AUROC, "lower"),
        **{bound: _by_run(at_delta, bound) for bound in ("epsilon_lower", "mu_lower")},
    }


def _bounded_text(data: StudyData, cells: Mapping[str, Cell]) -> Mapping[str, float]:
    """Returns by run what bounds a student that reads its teacher's text and starts elsewhere.

    Only text of draws that nobody can repeat is bounded.
    """
    by_teacher = _by_run(data.rows(audit=str(Audit.text_bound)), "accuracy_upper")
    by_id = {one.id: one for one in data.cells}
    told = data.rows(audit=str(AUDIT), metric=AUROC_UPPER)
    found = {}
    for run, params in zip(told["run"], told["params"], strict=True):
        teacher, start = (
            _needed(cells[run], option, by_id.get) for option in (TEACHER_OPTION, INIT_OPTION)
        )
        by_text = json.loads(params).get("channel") == Channel.secret_text
        if by_text and teacher is not None and start is not teacher:
            found[run] = by_teacher.get(teacher.alias, np.nan)
    return found


def _own(options: Mapping[str, object]) -> str:
    """Returns an attack's own parameters, without those of bounds."""
    hidden = (*CEILING_PARAMS, *BOUND_PARAMS)
    return params_json({k: v for k, v in options.items() if k not in hidden})


def _by_run(rows: pd.DataFrame, metric: str, column: str = "value") -> Mapping[str, float]:
    """Returns a metric of each run, the largest where it has several; none where unmeasured."""
    chosen = rows[(rows["metric"] == metric) & rows[column].notna()]
    return dict(chosen.groupby("run")[column].max())


def _learnt(data: StudyData, cell: Cell) -> str:
    """Returns whether a run's teacher, or it itself, predicts unseen text better than its start.

    The whole interval of its perplexity lies below the start's perplexity.
    """
    by_id = {one.id: one for one in data.cells}
    taught = cell if cell.role == "teacher" else _needed(cell, TEACHER_OPTION, by_id.get)
    start = None if taught is None else _needed(taught, INIT_OPTION, by_id.get)
    if taught is None or start is None:
        return _UNKNOWN
    upper, before = (
        _by_run(data.rows(run=one.alias, audit="utility", task=None), "perplexity", column)
        for one, column in ((taught, "upper"), (start, "value"))
    )
    if taught.alias not in upper or start.alias not in before:
        return _UNKNOWN
    return "yes" if upper[taught.alias] < before[start.alias] else _NO


def _needed(cell: Cell, option: str, find: Callable[[str], Cell | None]) -> Cell | None:
    """Returns the one finished cell whose output a cell is given as an option."""
    found = [find(identity) for identity in cell.needs.get(option, ())]
    return found[0] if len(found) == 1 else None


def over_kinds(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per kind of run: means of figures over replicates, its worst ceiling.

    A guarantee holds of a kind that holds of all its runs, and its teachers learnt something where
    all did.
    """
    numbers = [*MEASURES, "tpr", "gap"]
    grouped = rows.groupby("kind", sort=False)
    # Student seeds of one replicate share its teacher: they count as one.
    means = rows.groupby(["kind", "replicate"], sort=False)[numbers].mean()
    found = means.groupby("kind", sort=False).mean()
    ceilings = ["auroc_upper", "tpr_upper", "accuracy_upper"]
    found[ceilings] = grouped[ceilings].max()
    # Bounds that hold with 95% each: a mean of them is none.
    found[["epsilon_lower", "mu_lower"]] = grouped[["epsilon_lower", "mu_lower"]].min()
    exceeded = rows["unit_lower"] > rows["auroc_upper"]
    found["exceeded"] = exceeded.groupby(rows["kind"], sort=False).any()
    first = grouped[["defence", "technique", "role", "guarantee"]].first()
    found["holds"] = grouped["holds"].all()
    # The least of what its runs say: "no" before "unknown" before "yes".
    found["learnt"] = grouped["learnt"].min()
    return found.join(first).reset_index()


def reading(row: Mapping[Hashable, object]) -> str:
    """Returns what a row of `over_kinds` may be read as.

    >>> plain = {"guarantee": "", "holds": False, "learnt": "unknown", "exceeded": False}
    >>> reading({**plain, "defence": "goldfish"})
    'measured only'
    >>> reading({**plain, "defence": "dp-8", "holds": True, "learnt": "no"})
    'learnt nothing'
    """
    if row["exceeded"]:
        return "above its ceiling: a mistake in guarantee or code"
    if row["defence"] != UNDEFENDED and row["learnt"] == _NO:
        return "learnt nothing"
    if not row["holds"]:
        told = str(row["guarantee"])
        if told.startswith("no guarantee ("):
            return "no guarantee"
        if told and not told.startswith("no guarantee"):
            return "these weights only"
        return "no bound" if row["defence"] == UNDEFENDED else "measured only"
    ceiling = float(str(row.get("auroc_upper", np.nan)))
    if ceiling > VACUOUS:
        return "vacuous"
    return "guaranteed" if row["learnt"] != _UNKNOWN else "guaranteed; start not compared"
