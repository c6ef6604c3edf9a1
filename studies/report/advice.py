"""What to do after a study: what follows from its students' risk and utility, and what is open."""

from collections.abc import Iterator, Sequence

from audits.answer import Figure, ModelAnswer
from audits.answer.sentence import general_advice
from studies.claims.verdict import FEWEST_REPLICATES
from studies.report.sections.risk_utility import StudentCurve, student_curves
from studies.report.study_data import StudyData

_SAME_UTILITY = 0.02
"""Nats per token within which two checkpoints are equally useful: 2% of perplexity."""


def study_advice(data: StudyData, models: Sequence[ModelAnswer]) -> Iterator[str]:
    """Yields which student gives least away, what helps against it, what a larger study shows.

    Args:
        data: The study.
        models: What is said of each of its models.
    """
    yield from _front(models)
    general = list(general_advice(models))
    # A checkpoint that was measured says more than what might be tried.
    yield from list(_earlier(data)) or general[:1]
    yield from _larger(data, models)
    yield from general[1:]


def _larger(data: StudyData, models: Sequence[ModelAnswer]) -> Iterator[str]:
    if 0 < data.n_replicates < FEWEST_REPLICATES and len(_measured(models)) > 1:
        yield (
            f"For a statement about techniques, not about these weights alone, run "
            f"{FEWEST_REPLICATES} replicates or more; here {_are(data.n_replicates)}."
        )


def _are(count: int) -> str:
    return "there is one" if count == 1 else f"there are {count}"


def risk_of(model: ModelAnswer) -> Figure | None:
    """Returns what a model's risk is read by: the swap estimate, else its AUROC."""
    if model.swap is not None:
        return model.swap
    return None if model.membership is None else model.membership.figure


def _measured(models: Sequence[ModelAnswer]) -> list[tuple[str, Figure, float]]:
    """Returns name, risk and perplexity of every student that has both."""
    found = []
    for model in models:
        risk, utility = risk_of(model), model.utility
        if model.role != "student" or risk is None or risk.value is None or utility is None:
            continue
        if utility.figure.metric == "perplexity" and utility.figure.value is not None:
            name = model.label.removeprefix("Student · ")
            found.append((name, risk, utility.figure.value))
    return found


def _front(models: Sequence[ModelAnswer]) -> Iterator[str]:
    """Yields the student of the least risk, and what its utility costs or does not."""
    students = _measured(models)
    if len(students) < 2:
        return
    safest, useful = (min(students, key=_risk), min(students, key=lambda one: one[2]))
    riskiest = max(students, key=_risk)
    low, high = safest[1].upper, riskiest[1].lower
    if low is None or high is None or low >= high:
        yield f"No technique is shown to be safer than another.{_control(models, useful[2])}"
        return
    measure = "swap estimate" if safest[1].metric == "swap_estimate" else "AUROC"
    # The least of several estimates is the least risk only where it is apart from every other.
    others = [one[1].lower for one in students if one is not safest]
    apart = all(end is not None and low < end for end in others)
    least = "gives least away" if apart else f"gives less away than {riskiest[0]}"
    said = (
        f"Of these students {safest[0]} {least} ({measure} {_risk(safest):.2f}, "
        f"perplexity {safest[2]:,.0f})"
    )
    said += (
        " and is the most useful."
        if safest == useful
        else f"; the most useful, {useful[0]}, has {_risk(useful):.2f} at {useful[2]:,.0f}."
    )
    yield said + _control(models, useful[2])


def _control(models: Sequence[ModelAnswer], best: float) -> str:
    """Returns that no student is more useful than a model without a teacher, where that is so."""
    for model in models:
        utility = model.utility
        if model.role == "control" and utility is not None and utility.figure.value is not None:
            if utility.figure.metric == "perplexity" and utility.figure.value <= best:
                return (
                    " None is shown to be more useful than the control, which met no teacher "
                    f"({utility.figure.value:,.0f})."
                )
    return ""


def _risk(student: tuple[str, Figure, float]) -> float:
    return student[1].value if student[1].value is not None else 0.5


def _earlier(data: StudyData) -> Iterator[str]:
    """Yields which students an earlier checkpoint of leaves as useful, with less given away."""
    if data.n_replicates > 1:
        return
    better = [label for curve in student_curves(data) if (label := _stops_early(data, curve))]
    if better:
        yield (
            "Fewer updates: an earlier checkpoint is as useful and gives less away in "
            f"{', '.join(better)}; see the risk-utility curves."
        )


def _stops_early(data: StudyData, curve: StudentCurve) -> str:
    """Returns a student's technique and the swap estimate it could have had; empty where none."""
    (nll, risk), rows = curve.points[-1], data.comparison_rows("swap_estimate")
    own = data.of_primary(rows[rows["run"] == curve.cell.alias])
    # The first point is the start, where there is an init run.
    earlier = [before for loss, before in curve.points[1:-1] if loss <= nll + _SAME_UTILITY]
    if not len(own) or not earlier or not min(earlier) < own["lower"].iloc[0]:
        return ""
    return f"{curve.cell.technique} ({min(earlier):.2f} in place of {risk:.2f})"
