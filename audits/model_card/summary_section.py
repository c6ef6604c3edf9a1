"""What a model card says first, the answer of its audits, and the same as evaluation results."""

from huggingface_hub.repocard_data import EvalResult, eval_results_to_model_index

from audits.answer.answer import VERDICT_NAMES, Answer, Figure, ModelAnswer, Statement
from audits.answer.one_model import FALSE_PER_100
from audits.model_card.markdown import table

_COLUMNS = ("Audit", "Figure [95% interval]", "Over", "Beside", "Verdict")
_FOUND = tuple(f"Found at {rate:g} false per 100" for rate in FALSE_PER_100)
_ACCESS_COLUMNS = ("The attacker sees", "Attack", "AUROC [95% interval]", *_FOUND, "Verdict")
_ACCESS = (
    "**By what the attacker sees**, the least first. The attack of each line was named before any "
    "result; who sees more may also attack as those above."
)
_DATASET = ("private records", "private-records")
"""Name and type of the data in evaluation results: the records themselves are not named."""


def summary_section(answer: Answer) -> str:
    """Returns sentence, headline figures, caution and what was not tested."""
    parts = [answer.sentence]
    for model in answer.models:
        parts += [_table(model), *([_ACCESS, _by_access(model)] if model.by_access else [])]
    parts += [f"**Caution:** {answer.caution}"] if answer.caution else []
    parts += [f"**Not tested:** {'; '.join(answer.untested)}."] if answer.untested else []
    return "\n\n".join([*parts, "`audit.json` beside this card holds the same for machines."])


def model_index(answer: Answer, name: str) -> list[dict[str, object]]:
    """Returns the headline figures in Hugging Face's format of evaluation results.

    Args:
        answer: What is said of one model.
        name: The model's.
    """
    (model,) = answer.models
    figures = [
        (f"{told.audit}: {told.title}", told.figure)
        for told in (model.membership, model.memorization, model.utility)
        if told is not None
    ]
    figures += [
        (f"members found at {one.false_per_100:g} false accusations per 100", one.figure)
        for one in model.found
    ]
    results = [_result(title, figure) for title, figure in figures if figure.value is not None]
    index: list[dict[str, object]] = eval_results_to_model_index(name, results) if results else []
    return index


def _table(model: ModelAnswer) -> str:
    lines = [
        _line(told)
        for told in (model.membership, model.memorization, model.utility)
        if told is not None
    ]
    lines += [
        (
            f"private records found at {one.false_per_100:g} false accusations per 100",
            one.text,
            one.figure.count_text,
            "",
            "",
        )
        for one in model.found
    ]
    return table(_COLUMNS, lines)


def _by_access(model: ModelAnswer) -> str:
    lines = []
    for one in model.by_access:
        told = one.membership
        word = "" if told.verdict is None else VERDICT_NAMES[told.verdict.word]
        texts = {found.false_per_100: found.text for found in one.found}
        rates = [texts.get(rate, "not measured") for rate in FALSE_PER_100]
        lines.append((one.access, told.title, told.figure.text, *rates, word))
    return table(_ACCESS_COLUMNS, lines)


def _line(told: Statement) -> tuple[str, ...]:
    word = "" if told.verdict is None else VERDICT_NAMES[told.verdict.word]
    name = f"{told.audit}: {told.title}"
    return name, told.figure.text, told.figure.count_text, told.baseline, word


def _result(title: str, figure: Figure) -> EvalResult:
    ends = {"lower": figure.lower, "upper": figure.upper, "level": figure.level}
    counts = {"n_members": figure.n_members, "n_nonmembers": figure.n_nonmembers}
    given = {key: one for key, one in {**ends, **counts}.items() if one is not None}
    return EvalResult(
        task_type="text-generation",
        dataset_name=_DATASET[0],
        dataset_type=_DATASET[1],
        metric_type=figure.metric,
        metric_name=title,
        metric_value=figure.value,
        metric_args=given,
    )
