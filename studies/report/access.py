"""What each kind of access finds of every kind of model in a study."""

from collections.abc import Sequence

from audits.answer import AccessAnswer
from audits.answer.judging import judged_attacks
from audits.answer.one_model import access_answers
from audits.membership.epsilon_rows import READS_THE_COINS
from audits.rows import Audit
from audits.scoring.shift_test import DEALT_BY_COINS
from audits.statistics.verdict import TAIL_METRIC
from studies.compare.memorization import PRIVATE
from studies.report.repeated_runs import means_of_audit, records, runs_by_kind
from studies.report.study_data import StudyData

BASELINE = "held-out records"
"""What non-members are called in a study."""

_JUDGED_BY = (
    *("auroc", "tpr_at_fpr_0.1", "tpr_at_fpr_0.01"),
    *(TAIL_METRIC, READS_THE_COINS, DEALT_BY_COINS),
)


def study_access(data: StudyData) -> list[tuple[str, Sequence[AccessAnswer]]]:
    """Returns what each kind of access finds of private records, by kind of model."""
    return [(kind, model_access(data, runs)) for kind, runs in runs_by_kind(data).items()]


def model_access(data: StudyData, runs: Sequence[str]) -> Sequence[AccessAnswer]:
    """Returns what each kind of access finds of private records, over runs of one kind."""
    rows = data.rows(
        audit=str(Audit.membership), population=PRIVATE, task=None, block=None, run_b=None
    )
    rows = rows[rows["run"].isin(list(runs)) & ~rows["params"].str.contains('"unit"')]
    kept = rows[rows["metric"].isin(_JUDGED_BY)]
    alone = records(kept) if len(runs) == 1 else means_of_audit(data, kept)
    return access_answers(judged_attacks(alone), BASELINE)
