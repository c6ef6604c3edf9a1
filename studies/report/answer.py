"""The study's answer: what is said of teacher, students and control before any chart.

A model's verdict is that of its own AUROC and certified TPR under the primary attack, by the rules
of `audits.statistics.verdict`, as its card and a single audit say it. The swap estimate stands
beside it: how much of that came by the private records. Of several replicates the figures are means
with Student's t over replicates, and the verdict is that of the mean; certified bounds are the
means of their replicates', which bound the mean.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from audits.answer import AccessAnswer, Answer, Figure, ModelAnswer, Statement, model_answer
from audits.answer.judging import judged_attacks
from audits.answer.one_model import access_answers, excess_statement
from audits.answer.sentence import plain_sentence, untested
from audits.membership.epsilon_rows import READS_THE_COINS
from audits.membership.worst_task import WORST_TASK
from audits.rows import Audit
from audits.scoring.shift_test import DEALT_BY_COINS
from audits.statistics.verdict import TAIL_METRIC, admitted
from studies.claims.figures import GAP_PARAMS
from studies.compare.memorization import PRIVATE, TOKEN_ACCURACY
from studies.compare.shift import dealt_by_coins, shift_of_splits
from studies.report.advice import study_advice
from studies.report.notices import notices
from studies.report.over_replicates import figure_of
from studies.report.study_data import StudyData

_ROLES = ("teacher", "student", "control")
_COUNTERFACTUALS = ("counterfactual_teacher", "counterfactual")
_JUDGED_BY = (
    *("auroc", "tpr_at_fpr_0.1", "tpr_at_fpr_0.01"),
    *(TAIL_METRIC, READS_THE_COINS, DEALT_BY_COINS),
)
_GAP_EXCESS = f"{TOKEN_ACCURACY}_gap_excess"
_BASELINE = "held-out records"
_QUESTION = "Do a teacher and its students give the teacher's private records away?"
_ADVICE_LINES = 3
Row = dict[str, object]


def study_answer(data: StudyData, *, out_of_date: bool = False) -> Answer:
    """Returns what a reader of the study is told first.

    Args:
        data: The study.
        out_of_date: Whether the study file asks for other cells by now.
    """
    models = _models(data)
    told = [
        f"{notice.title[0].upper()}{notice.title[1:]}. {notice.text}"
        for notice in notices(data, out_of_date=out_of_date)
    ]
    return Answer(
        kind="study",
        question=_QUESTION,
        sentence=plain_sentence(models),
        models=models,
        caution=told[0] if told else "",
        advice=list(study_advice(data, models))[:_ADVICE_LINES],
        untested=untested(set(data.results["audit"])),
        notes=told,
    )


def _models(data: StudyData) -> list[ModelAnswer]:
    """Returns one answer for every kind of teacher and student, then of controls."""
    kinds = _runs_by_kind(data)
    roles = {data.kinds[cell.alias]: str(cell.role) for cell in data.cells}
    models = [_model(data, kind, roles[kind], runs) for kind, runs in kinds.items()]
    control = next((one.utility for one in models if one.role == "control" and one.utility), None)
    return [
        replace(one, utility_beside=("control", control.figure))
        if control is not None and one.role == "student"
        else one
        for one in models
    ]


def study_access(data: StudyData) -> list[tuple[str, Sequence[AccessAnswer]]]:
    """Returns what each kind of access finds of private records, by kind of model."""
    return [(kind, _access(data, runs)) for kind, runs in _runs_by_kind(data).items()]


def _runs_by_kind(data: StudyData) -> dict[str, list[str]]:
    """Returns the runs that repeat each other, of teachers, students and controls."""
    kinds: dict[str, list[str]] = {}
    for cell in data.cells:
        if cell.role in _ROLES:
            kinds.setdefault(data.kinds[cell.alias], []).append(cell.alias)
    return kinds


def _access(data: StudyData, runs: Sequence[str]) -> Sequence[AccessAnswer]:
    rows = data.rows(
        audit=str(Audit.membership), population=PRIVATE, task=None, block=None, run_b=None
    )
    rows = rows[rows["run"].isin(list(runs)) & ~rows["params"].str.contains('"unit"')]
    kept = rows[rows["metric"].isin(_JUDGED_BY)]
    alone = _records(kept) if len(runs) == 1 else _means(data, kept)
    return access_answers(judged_attacks(alone), _BASELINE)


def _means(data: StudyData, rows: pd.DataFrame) -> list[Row]:
    """Returns rows of runs that repeat each other as those of one run."""
    key = ["audit", "population", "name", "params", "metric"]
    return [_mean(data, own) for _, own in rows.groupby(key, sort=False, dropna=False)]


def _model(data: StudyData, kind: str, role: str, runs: Sequence[str]) -> ModelAnswer:
    own = data.results[data.results["run"].isin(list(runs))]
    compared = own[own["run_b"].map(_roles(data)).isin(_COUNTERFACTUALS) & own["task"].isna()]
    alone = _rows_of_one(data, own[own["run_b"].isna()])
    model = model_answer(alone, label=kind, run=runs[0], role=role, baseline=_BASELINE)
    swap = data.of_primary(compared[compared["metric"] == "swap_estimate"])
    excess = compared[compared["metric"] == _GAP_EXCESS]
    note = data.notes.get(kind)
    return replace(
        model,
        cautions=[*model.cautions, *([f"what ran of the technique: {note}"] if note else [])],
        swap=_figure(data, swap),
        by_access=_access(data, runs),
        memorization=_beside_counterfactual(data, excess) or model.memorization,
    )


def _roles(data: StudyData) -> dict[str, str]:
    return {cell.alias: str(cell.role) for cell in data.cells}


def _figure(data: StudyData, rows: pd.DataFrame) -> Figure | None:
    """Returns the figure of runs that repeat each other; None where it was not measured."""
    rows = rows[rows["value"].notna()]
    return Figure.of_row(_mean(data, rows)) if len(rows) else None


def _beside_counterfactual(data: StudyData, rows: pd.DataFrame) -> Statement | None:
    """Returns the gap in token accuracy less the counterfactual's, judged."""
    figure = _figure(data, rows)
    if figure is None:
        return None
    runs = rows["run"].unique()
    shifted = _shifted(data, data.results[data.results["run"].isin(runs)])
    return excess_statement(figure, admitted(shifted, dealt_by_coins(data.results, runs)))


def _rows_of_one(data: StudyData, rows: pd.DataFrame) -> list[Row]:
    """Returns the rows of runs that repeat each other as those of one run.

    Of membership those of private records under the primary attack, and what says of which kind
    the records are.
    """
    private = rows["population"] == PRIVATE
    whole = rows["task"].isna() & rows["block"].isna()
    primary = rows.index.isin(data.of_primary(rows).index)
    diagnostic = rows["metric"].isin([DEALT_BY_COINS]) | ~rows["audit"].isin(
        [str(audit) for audit in (Audit.membership, Audit.memorization, Audit.blocks)]
    )
    gap = (rows["metric"] == f"{TOKEN_ACCURACY}_gap") & (rows["params"] == GAP_PARAMS)
    any_attack = rows["name"] == "any_attack"
    kept = rows[whole & ((private & (primary | gap | any_attack)) | diagnostic)]
    worst = rows[private & primary & (rows["metric"] == WORST_TASK) & rows["value"].notna()]
    if rows["run"].nunique() == 1:
        return _records(pd.concat([kept, worst]))
    # A test of one model's attacks is no test of all replicates.
    kept = kept[kept["name"] != "any_attack"]
    means = _means(data, kept)
    if len(worst):
        means.append(_mean(data, worst) | {"task": worst["task"].mode().iloc[0]})
    return means


def _mean(data: StudyData, rows: pd.DataFrame) -> Row:
    """Returns the row that stands for those of several runs, or the row itself."""
    replicates = {cell.alias: cell.replicate for cell in data.cells}
    figure = figure_of(rows.assign(replicate=rows["run"].map(replicates)))
    if rows["metric"].iloc[0] == TAIL_METRIC:
        figure |= {end: rows[end].mean() for end in ("lower", "upper")}
    merged = rows.iloc[0].to_dict() | figure
    merged |= {"shifted": _shifted(data, rows), "skipped": rows["skipped"].max()}
    return _plain(merged)


def _shifted(data: StudyData, rows: pd.DataFrame) -> bool | None:
    """Returns whether the texts of some run tell its sides apart; None where that is not settled.

    One split may have too few records to settle it, and those of all replicates enough.
    """
    told = rows[rows["audit"] == str(Audit.membership)]["shifted"]
    if told.eq(True).any():
        return True
    if len(told) and told.notna().all():
        return False
    together = shift_of_splits(data.results, {cell.alias: cell for cell in data.cells})
    return None if together is None else together.shifted


def _records(rows: pd.DataFrame) -> list[Row]:
    return [_plain(row) for row in rows.to_dict("records")]


def _plain(row: dict[object, object]) -> Row:
    """Returns a row with None for what is not there, as tables hold it."""
    return {
        str(name): None if isinstance(value, float) and np.isnan(value) else value
        for name, value in row.items()
    }
