"""The study's answer: what is said of teacher, students and control before any chart.

A model's verdict is that of its own AUROC and certified TPR under the primary attack, by the rules
of `audits.statistics.verdict`, as its card and a single audit say it. The swap estimate stands
beside it: how much of that came by the private records. Of several replicates the figures are means
with Student's t over replicates, and the verdict is that of the mean; certified bounds are the
means of their replicates', which bound the mean.
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from audits.answer import Answer, Figure, ModelAnswer, Statement, model_answer
from audits.answer.one_model import excess_statement
from audits.answer.sentence import audits_of, plain_sentence, untested
from audits.guarantee import guarantee_of
from audits.membership.worst_task import WORST_TASK
from audits.rows import Audit
from audits.scoring.shift_test import DEALT_BY_COINS
from audits.statistics.verdict import admitted
from studies.claims.figures import GAP_PARAMS
from studies.compare.memorization import PRIVATE, TOKEN_ACCURACY
from studies.compare.shift import dealt_by_coins
from studies.report.access import BASELINE, model_access
from studies.report.advice import study_advice
from studies.report.notices import notices
from studies.report.repeated_runs import (
    Row,
    mean_of,
    means,
    records,
    runs_by_kind,
    texts_shifted,
)
from studies.report.study_data import StudyData

_COUNTERFACTUALS = ("counterfactual_teacher", "counterfactual")
_GAP_EXCESS = f"{TOKEN_ACCURACY}_gap_excess"
_QUESTION = "Do a teacher and its students give the teacher's private records away?"
_ADVICE_LINES = 3


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
        untested=untested(audits_of(records(data.results[["audit", "name"]]))),
        notes=told,
    )


def _models(data: StudyData) -> list[ModelAnswer]:
    """Returns one answer for every kind of teacher and student, then of controls."""
    kinds = runs_by_kind(data)
    roles = {data.kinds[cell.alias]: str(cell.role) for cell in data.cells}
    models = [_model(data, kind, roles[kind], runs) for kind, runs in kinds.items()]
    control = next((one.utility for one in models if one.role == "control" and one.utility), None)
    return [
        replace(one, utility_beside=("control", control.figure))
        if control is not None and one.role == "student"
        else one
        for one in models
    ]


def _model(data: StudyData, kind: str, role: str, runs: Sequence[str]) -> ModelAnswer:
    own = data.results[data.results["run"].isin(list(runs))]
    compared = own[own["run_b"].map(_roles(data)).isin(_COUNTERFACTUALS) & own["task"].isna()]
    alone = _rows_of_one(data, own[own["run_b"].isna()])
    model = model_answer(alone, label=kind, run=runs[0], role=role, baseline=BASELINE)
    swap = data.of_primary(compared[compared["metric"] == "swap_estimate"])
    excess = compared[compared["metric"] == _GAP_EXCESS]
    note = data.notes.get(kind)
    return replace(
        model,
        cautions=[*model.cautions, *([f"what ran of the technique: {note}"] if note else [])],
        swap=_figure(data, swap),
        by_access=model_access(data, runs),
        memorization=_beside_counterfactual(data, excess) or model.memorization,
        guarantee=guarantee_of(records(own)),
    )


def _roles(data: StudyData) -> dict[str, str]:
    return {cell.alias: str(cell.role) for cell in data.cells}


def _figure(data: StudyData, rows: pd.DataFrame) -> Figure | None:
    """Returns the figure of runs that repeat each other; None where it was not measured."""
    rows = rows[rows["value"].notna()]
    return Figure.of_row(mean_of(data, rows)) if len(rows) else None


def _beside_counterfactual(data: StudyData, rows: pd.DataFrame) -> Statement | None:
    """Returns the gap in token accuracy less the counterfactual's, judged."""
    figure = _figure(data, rows)
    if figure is None:
        return None
    runs = rows["run"].unique()
    shifted = texts_shifted(data, data.results[data.results["run"].isin(runs)])
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
        [
            str(audit)
            for audit in (Audit.membership, Audit.memorization, Audit.blocks, Audit.guarantee)
        ]
    )
    gap = (rows["metric"] == f"{TOKEN_ACCURACY}_gap") & (rows["params"] == GAP_PARAMS)
    any_attack = rows["name"] == "any_attack"
    kept = rows[whole & ((private & (primary | gap | any_attack)) | diagnostic)]
    worst = rows[private & primary & (rows["metric"] == WORST_TASK) & rows["value"].notna()]
    if rows["run"].nunique() == 1:
        return records(pd.concat([kept, worst]))
    # A test of one model's attacks is no test of all replicates.
    kept = kept[kept["name"] != "any_attack"]
    found = means(data, kept)
    if len(worst):
        found.append(mean_of(data, worst) | {"task": worst["task"].mode().iloc[0]})
    return found
