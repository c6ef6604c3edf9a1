"""What a command ends with: the answer in at most twenty lines of plain text."""

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

from audits.answer.answer import VERDICT_NAMES, Answer, Figure, Found, ModelAnswer, Statement
from audits.rows import Audit
from common.roles import COUNTERFACTUAL_ROLES
from common.wording import estimate_text

LINES = 20
WIDTH = 100
_GRAVITY = ("leaks", "reversed", "undecided", "nothing shown", "clean")
_COLUMN = "  "
_PATHS = 5
_LEAST = 12
"""Characters of a model's name that are shown in any case."""


def console_lines(answer: Answer, paths: Mapping[str, str], width: int | None = None) -> list[str]:
    """Returns an answer as plain text, for a terminal or a log file.

    One model is told audit by audit; several are rows of a table, the gravest where there are more
    than fit. Counterfactual runs are no rows: their models' swap estimates are made of them.

    Args:
        answer: The answer.
        paths: Where the rest is, by what it is called; never cut, however long.
        width: Characters of a line; None takes the terminal's, and `WIDTH` where there is none.

    Returns:
        At most `LINES` lines without control characters.
    """
    if width is None:
        width = shutil.get_terminal_size((WIDTH, 0)).columns if sys.stdout.isatty() else WIDTH
    models = [
        one
        for one in answer.models
        if one.role not in COUNTERFACTUAL_ROLES or len(answer.models) == 1
    ]
    foot = _foot(answer, models, paths, width)
    if len(models) == 1:
        head = _wrapped(answer.question, width, 1) + _wrapped(answer.sentence, width, 2)
        body = _one(models[0], width)
    else:
        legend = _wrapped(_legend(models), width, 3)
        # A header, and a row for every model, before the sentence is told whole.
        spare = LINES - len(foot) - len(legend) - 1 - len(models)
        head = _wrapped(answer.sentence, width, min(4, max(1, spare)))
        body = _many(models, LINES - len(foot) - len(legend) - len(head), width) + legend
    parts = [part for part in (head, body[: LINES - len(head) - len(foot)], foot) if part]
    spaced = sum(map(len, parts)) + len(parts) - 1 <= LINES
    return [
        line for n, part in enumerate(parts) for line in [*([""] if n and spaced else []), *part]
    ]


def _foot(
    answer: Answer, models: Sequence[ModelAnswer], paths: Mapping[str, str], width: int
) -> list[str]:
    """Returns counts, caution and paths."""
    most = 3 if len(models) == 1 else 2
    place = max(map(len, paths), default=0)
    return [
        *_counts(models),
        *_wrapped(_caution(answer, models), width, most, "caution: "),
        *(f"{name:<{place}}{_COLUMN}{_plain(paths[name])}" for name in list(paths)[:_PATHS]),
    ]


def _one(model: ModelAnswer, width: int) -> list[str]:
    """Returns what every audit of one model says, in words."""
    told = [("membership", _membership(model.membership))]
    told += [("", _finds(model.found))] if model.found else []
    if model.guarantee is not None:
        told.append(("guarantee", model.guarantee.line))
    if model.swap is not None:
        text = f"{model.swap.text} beside its counterfactual, {model.swap.count_text}"
        told.append(("swap estimate", text))
    if model.single_records is not None:
        named, share = model.single_records
        text = f"{named.value:g} of {named.n_members} named; share found {share.text}"
        told.append(("single records", f"{text}, of training by this recipe"))
    if model.worst_group is not None:
        task, figure = model.worst_group
        told.append(("worst task", f"{task}, AUROC {figure.text}, {figure.count_text}"))
    told.append(("memorization", _memorization(model.memorization)))
    if model.blocks is not None:
        own = model.blocks
        text = f"AUROC {own.lowest:.3f} to {own.highest:.3f} over {own.n_blocks} blocks"
        told.append(("blocks", f"{text}, {own.signal}"))
    told.append(("utility", _utility(model)))
    place = max(len(audit) for audit, _ in told)
    lines = []
    for audit, text in told:
        lines += _wrapped(text, width, 2, f"{audit:<{place}}{_COLUMN}")
    return lines


def _membership(told: Statement | None) -> str:
    if told is None:
        return "not audited"
    by = f"AUROC {told.figure.text}, {told.title}, {told.figure.count_text}"
    return f"{_word(told)}: {by}{_reason(told)}"


def _memorization(told: Statement | None) -> str:
    if told is None:
        return "not audited"
    figure = told.figure
    gap = estimate_text(figure.value, figure.lower, figure.upper, "+.3f")
    by = f"{told.title} {gap} beyond {told.baseline}, {figure.count_text}"
    return f"{_word(told)}: {by}{_reason(told)}"


def _reason(told: Statement) -> str:
    """Returns why a verdict is no finding; a leak is told by its figure."""
    verdict = told.verdict
    return "" if verdict is None or verdict.word == "leaks" else f"; {verdict.why}"


def _utility(model: ModelAnswer) -> str:
    if model.utility is None:
        return "not audited"
    beside = model.utility_beside
    other = "" if beside is None else f"; {beside[0]} {beside[1].text}"
    return f"{model.utility.title} {model.utility.figure.text}{other}"


def _finds(found: Sequence[Found]) -> str:
    """Returns how many private records are found at each number of false accusations."""
    told = []
    for one in found:
        if one.figure.value is None:
            told.append(f"at {one.false_per_100:g} {one.text}")
        elif told:
            told.append(f"{_of_100(one)} at {one.false_per_100:g}")
        else:
            share, _, ends = _of_100(one).partition(" ")
            private = f"finds {share} of 100 private records {ends}".rstrip()
            told.append(f"{private} at {one.false_per_100:g} false accusations per 100")
    return ", ".join(told)


def _of_100(found: Found, *, ends: bool = True) -> str:
    if found.figure.value is None:
        few = found.figure.n_nonmembers
        return "n/m" if few is None else f"n/m, n={few}"
    text = found.text.replace(" of 100", "")
    return text if ends else text.partition(" ")[0]


def _many(models: Sequence[ModelAnswer], room: int, width: int) -> list[str]:
    """Returns a table with a row for every model, or for the gravest where not all fit."""
    if not models:
        return ["nothing was audited"]
    shown, more = list(models), []
    if len(models) > room - 1:
        shown = sorted(models, key=_gravity)[: room - 2]
        more = [f"and {len(models) - len(shown)} more, less grave, on the page"]
    # What does not fit goes without the interval at the lower rate, then without "Student · ".
    for ends, role in ((True, True), (False, True), (False, False)):
        cells = [_HEADER, *(_cells(model, ends=ends, role=role) for model in shown)]
        over = sum(_widths(cells)) + len(_COLUMN) * (len(_HEADER) - 1) - width
        if over <= 0:
            break
    longest = _widths(cells)[0]
    cells = [[_cut(row[0], max(_LEAST, longest - max(0, over))), *row[1:]] for row in cells]
    return [*_aligned(cells), *more]


_HEADER = ["model", "membership", "AUROC", "found", "memorization", "utility"]


def _cells(model: ModelAnswer, *, ends: bool, role: bool) -> list[str]:
    """Returns a model's row.

    Args:
        model: The model.
        ends: Whether the figure at the lower rate has its interval too.
        role: Whether a technique stands behind the role of its model.
    """
    figure, mark = (model.swap, "*") if model.swap is not None else (_figure(model.membership), "")
    found = [_of_100(one, ends=ends or not n) for n, one in enumerate(model.found)]
    more = f" ({'; '.join(found[1:])})" if found[1:] else ""
    utility = _figure(model.utility)
    value = None if utility is None else utility.value
    return [
        _plain(model.label if role else model.label.split(" · ", 1)[-1]),
        _word(model.membership),
        "-" if figure is None else _estimate(figure, ".2f") + mark,
        f"{found[0]}{more}" if found else "-",
        _points(_figure(model.memorization)),
        "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}",
    ]


def _figure(told: Statement | None) -> Figure | None:
    return None if told is None else told.figure


def _estimate(figure: Figure, style: str) -> str:
    return estimate_text(figure.value, figure.lower, figure.upper, style, missing="n/m")


def _points(gap: Figure | None) -> str:
    """Returns a gap between shares, in points of 100."""
    if gap is None:
        return "-"
    value, lower, upper = (
        None if one is None else round(100 * one, 1) + 0.0  # no -0.0
        for one in (gap.value, gap.lower, gap.upper)
    )
    text = estimate_text(value, lower, upper, ".1f", missing="n/m")
    return text if value is None or value < 0 else f"+{text}"


def _legend(models: Sequence[ModelAnswer]) -> str:
    """Returns what the columns of the table hold."""
    told = [
        f"{_plain(model.label)}: {model.guarantee.short}"
        for model in models
        if model.guarantee is not None
    ]
    if any(model.swap is not None for model in models):
        told.append("*: swap estimate")
    rates = list(dict.fromkeys(one.false_per_100 for model in models for one in model.found))
    if rates:
        lower = f" (at {rates[1]:g})" if len(rates) > 1 else ""
        told.append(f"found: of 100 private records at {rates[0]:g} false accusations{lower}")
    if any(one.figure.value is None for model in models for one in model.found):
        told.append("n/m: not measurable with n non-members")
    for name in ("memorization", "utility"):
        of = [own for model in models if (own := getattr(model, name)) is not None]
        titles = " or ".join(dict.fromkeys(one.title for one in of))
        beyond = " or ".join(dict.fromkeys(one.baseline for one in of if one.baseline))
        more = f", points beyond {beyond}" if beyond else ""
        told += [f"{name}: {titles}{more}"] if of else []
    return "; ".join(told)


def _gravity(model: ModelAnswer) -> tuple[bool, int, float]:
    """Orders models that are shipped and leak most first."""
    verdict = None if model.membership is None else model.membership.verdict
    place = len(_GRAVITY) if verdict is None else _GRAVITY.index(verdict.word)
    figure = model.swap or _figure(model.membership)
    return not model.shipped, place, -(0.0 if figure is None else figure.value or 0.0)


def _word(told: Statement | None) -> str:
    if told is None or told.verdict is None:
        return "not audited" if told is None else "no verdict"
    upper = told.figure.upper
    if told.verdict.word == "undecided" and told.audit == Audit.membership and upper is not None:
        # Whatever the texts tell, an AUROC of 0.1 is not passed over.
        return f"{VERDICT_NAMES['reversed']}?" if upper < 0.5 else VERDICT_NAMES["undecided"]
    return VERDICT_NAMES[told.verdict.word]


def _counts(models: Sequence[ModelAnswer]) -> list[str]:
    """Returns how many records were skipped and cut, of the model with the most, if any were."""
    told = {
        "could not be scored": max((one.skipped for one in models), default=0),
        "are longer than the model reads": max((one.cut for one in models), default=0),
    }
    counts = ", ".join(f"{count} {what}" for what, count in told.items() if count)
    of_whom = " (the most of any model)" if len(models) > 1 else ""
    return [f"records{_COLUMN}{counts}{of_whom}"] if counts else []


def _caution(answer: Answer, models: Sequence[ModelAnswer]) -> str:
    """Returns what must be known first: of all models, or of the first that has a caution."""
    own = [f"{one.label}: {one.cautions[0]}" for one in models if one.cautions]
    if len(models) == 1:
        own = list(models[0].cautions)
    return answer.caution or next(iter(own), "")


def verdict_text(model: ModelAnswer) -> str:
    """Returns verdict and AUROC of a model in a few words; empty where it was not audited.

    >>> verdict_text(ModelAnswer("Student", "s", "student"))
    ''
    """
    told = model.membership
    if told is None:
        return ""
    return f"{_word(told)}, AUROC {_estimate(told.figure, '.2f')}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = _widths(rows)
    return [
        _COLUMN.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(1, width - 1)]}…"


def _wrapped(text: str, width: int, most: int, before: str = "") -> list[str]:
    """Returns a text in a few lines, which end in an ellipsis where it is longer."""
    if not text:
        return []
    return textwrap.wrap(
        _plain(text),
        width,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        max_lines=most,
        placeholder=" …",
        break_on_hyphens=False,
    )


def _plain(text: str) -> str:
    """Returns a text on one line, without what a terminal would obey."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())
