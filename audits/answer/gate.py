"""A release gate: lines such as ``membership/loss.tpr_at_fpr_0.01.lower > 0.05``, none of which may
hold of a model that is to be shipped."""

import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audits.answer.judging import OPPOSED, Row, judged_attacks, options_text, params_of
from audits.answer.one_model import headline_attack
from audits.rows import METRIC, Audit
from audits.spans.names import METRICS
from common.errors import UserError

FIELDS = ("value", "lower", "upper", "p_value", "n_members", "n_nonmembers")
FORM = "[model:]audit[/attack].metric.field op number"
EXAMPLE = "membership/loss.tpr_at_fpr_0.01.lower > 0.05"
FAILED = 3
"""Exit status of a command some line of whose gate does not let the model pass."""

MEASURED: Mapping[Audit, str] = {
    Audit.membership: "auroc auroc_difference balanced_accuracy dealt_by_coins epsilon_lower "
    "epsilon_equivalent_at_fpr_0.01 epsilon_equivalent_at_fpr_0.1 max_t mu_lower near_duplicates "
    "prompt_length_auroc records_needed relative_leakage reliability response_length_auroc "
    "set_effect sets_detected swap_estimate task_distance tpr_at_fpr_0.01 tpr_at_fpr_0.1 "
    "tpr_certified_at_fpr_0.01 upper_bound",
    Audit.memorization: "both both_net dealt_by_coins did exact_match_rate exact_match_rate_excess "
    "exact_match_rate_gap extraction_probability extraction_probability_excess "
    "extraction_probability_gap extraction_rate extraction_rate_gap extraction_strength "
    "extraction_strength_excess extraction_strength_gap near_match_rate near_match_rate_gap "
    "neither neither_net similarity similarity_excess similarity_gap student_only "
    "student_only_net teacher_only teacher_only_net token_accuracy token_accuracy_excess "
    "token_accuracy_gap token_accuracy_gap_excess top_overlap top_overlap_ceiling_membership "
    "top_overlap_ceiling_memorization top_overlap_chance",
    Audit.blocks: "auroc equal_blocks_wald max_minus_min max_minus_min_corrected near_duplicates "
    "prompt_length_auroc records_needed response_length_auroc task_distance upper_bound",
    Audit.utility: "perplexity teacher_kl",
    Audit.spans: " ".join(f"{one} {one}_gap" for one in METRICS) + " dealt_by_coins",
}
"""Metrics of `kd-privacy audit`; some attacks have further ones that tell of themselves."""

_NO_ATTACKS = ("any_attack", "blind", "balance", "inherited")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_LONGEST = 1000
"""Characters of a path that may be one of a file."""
_LINE = re.compile(rf"(.+?)\s*({'|'.join(_OPERATORS)})\s*(\S+)")
_SUBJECT = re.compile(rf"(?:(.+?):)?(\w+)(?:/(.+?))?\.({METRIC})\.(\w+)")


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a gate, which fails a model of which it holds.

    Attributes:
        text: The line.
        model: A model's run or label, in either case; None, those that are shipped.
        audit: The audit.
        attack: Id of an attack, metric or signal, with its options as ``min_k (k=0.2)`` where it
            has been run with several; None, the one that the answer is told by.
        metric: The results table's metric.
        field: One of `FIELDS`.
        op: A comparison.
        number: What the figure is compared with.
    """

    text: str
    model: str | None
    audit: Audit
    attack: str | None
    metric: str
    field: str
    op: str
    number: float

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Reads a line.

        Raises:
            UserError: It has another form, or no such audit or field.

        Example:
            >>> one = Condition.parse("student:membership/min_k (k=0.2).tpr_at_fpr_0.01.lower>.05")
            >>> one.model, one.attack, one.metric, one.field, one.op, one.number
            ('student', 'min_k (k=0.2)', 'tpr_at_fpr_0.01', 'lower', '>', 0.05)
        """
        text = text.strip()
        line = _LINE.fullmatch(text)
        subject = line and _SUBJECT.fullmatch(line[1])
        if line is None or subject is None or not _is_number(line[3]):
            raise UserError(f"{text!r} is no file, and no line such as {EXAMPLE} ({FORM})")
        model, audit, attack, metric, field = subject.groups()
        require_named(text, "audit", audit, [str(one) for one in Audit])
        require_named(text, "field", field, FIELDS)
        return cls(text, model, Audit(audit), attack, metric, field, line[2], float(line[3]))

    def holds(self, found: float) -> bool:
        """Returns whether the comparison is true of a figure."""
        return _OPERATORS[self.op](found, self.number)


def conditions_of(given: Sequence[str]) -> list[Condition]:
    """Returns the lines that are given, and those of files that are.

    Args:
        given: Lines, or paths of files of lines; in a file, empty lines and what follows a ``#``
            count for nothing.

    Raises:
        UserError: A line that is none, of a file with its place.
    """
    found = []
    for one in given:
        path = Path(one)
        if len(one) > _LONGEST or not path.is_file():
            found.append(Condition.parse(one))
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
        for number, line in enumerate(lines, 1):
            if text := line.partition("#")[0].strip():
                try:
                    found.append(Condition.parse(text))
                except UserError as error:
                    raise UserError(f"{path}:{number}: {error}") from error
    return found


def require_named(text: str, kind: str, name: str, known: Collection[str]) -> None:
    """Refuses a name that a line cannot mean.

    Raises:
        UserError: With the nearest name.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise UserError(f"{text!r}: no {kind} is named {name} ({hint})")


def require_measurable(
    conditions: Sequence[Condition],
    models: Collection[str],
    attacks: Collection[str],
    left_out: Collection[str],
) -> None:
    """Refuses, before any model is loaded, lines that no audit of a command can answer.

    Args:
        conditions: The gate.
        models: Names of the models that are audited.
        attacks: Ids of the membership attacks that run.
        left_out: Audits that do not.

    Raises:
        UserError: With the nearest name.
    """
    for one in conditions:
        if one.audit in left_out:
            raise UserError(f"{one.text!r}: {one.audit} is left out of this audit")
        if one.model is not None:
            require_named(one.text, "model", one.model, models)
        if one.audit == Audit.membership and one.attack is not None:
            name = one.attack.partition(" (")[0]
            require_named(one.text, "attack", name, [*attacks, *_NO_ATTACKS])
        known = MEASURED.get(one.audit, "").split()
        if difflib.get_close_matches(one.metric, known, n=1):
            require_named(one.text, "metric", one.metric, known)


def failures(
    conditions: Sequence[Condition],
    rows: Sequence[Row],
    labels: Mapping[str, str],
    shipped: Collection[str],
) -> list[str]:
    """Returns a line for every figure that fails a condition, absent ones included.

    Args:
        conditions: The gate.
        rows: Rows of the results table at the last step.
        labels: What readers call each run.
        shipped: The runs that a line without a model is about.
    """
    whole = [row for row in rows if row.get("task") is None]
    return [told for one in conditions for told in _failures(one, whole, labels, shipped)]


def _failures(
    condition: Condition, rows: Sequence[Row], labels: Mapping[str, str], shipped: Collection[str]
) -> Iterator[str]:
    if condition.model is None:
        runs = [run for run in labels if run in shipped]
    else:
        meant = condition.model.casefold()
        runs = [run for run, label in labels.items() if meant in (run.casefold(), label.casefold())]
    if not runs:
        names = ", ".join(dict.fromkeys(labels.values()))
        yield f"{condition.text}: there is no such model; there are {names}"
    for run in runs:
        whose = f"{condition.text}: of {labels[run]}"
        found, missing = _meant(condition, [row for row in rows if row["run"] == run])
        if missing:
            yield f"{whose} {missing}"
        for row in found:
            value = row.get(condition.field)
            if value is None or math.isnan(float(str(value))):
                yield f"{whose} it is not measurable{_place(row)}"
            elif condition.holds(float(str(value))):
                yield f"{whose} it is {float(str(value)):.6g}{_place(row)}"


def _meant(condition: Condition, rows: Sequence[Row]) -> tuple[list[Row], str]:
    """Returns the rows that a line means, or why there are none.

    Several are blocks, or models that a model is compared with: each is held to the line.
    """
    head = headline_attack(
        judged_attacks([row for row in rows if _of_whole(row, Audit.membership)])
    )
    own = [row for row in rows if _of_whole(row, condition.audit)]
    named = [row for row in own if row["metric"] == condition.metric]
    if not named:
        return [], f"it was not measured{_nearest(condition.metric, own, 'metric')}"
    # Members before others, a model alone before beside another, held-out records before others.
    members = None if head is None else head.row["population"]
    named = [row for row in named if row["population"] == members] or named
    named = [row for row in named if row.get("run_b") is None] or named
    named = [row for row in named if params_of(row).get("against") in (None, OPPOSED)] or named
    if condition.attack is not None:
        found = [row for row in named if condition.attack in (row["name"], printed_name(row))]
    else:
        best = "" if head is None else printed_name(head.row)
        found = [row for row in named if printed_name(row) == best] or named
    if not found:
        return [], f"it was not measured by {condition.attack}{_nearest(condition.attack, named)}"
    which = sorted({printed_name(row) for row in found})
    return (
        (found, "") if len(which) == 1 else ([], f"it may be any of {', '.join(which)}: say which")
    )


def _of_whole(row: Row, audit: Audit) -> bool:
    """Tells figures of single records and all lengths together from those of subjects and classes.

    A signal has a figure for every block, and no other.
    """
    params = params_of(row)
    apart = "length" in params or params.get("unit") == "subject"
    return row["audit"] == str(audit) and not apart


def printed_name(row: Row) -> str:
    """Returns an attack, metric or signal as results are printed, with its options."""
    return f"{row['name']}{options_text(row, ('against', 'n_blocks'))}"


def _nearest(name: str | None, rows: Sequence[Row], column: str | None = None) -> str:
    known = sorted({printed_name(row) if column is None else str(row[column]) for row in rows})
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {near[0]}?)" if near else f" (there are {', '.join(known) or 'none'})"


def _place(row: Row) -> str:
    """Returns what a figure is over, beyond the model."""
    counts = [str(row[side]) for side in ("n_members", "n_nonmembers") if row.get(side) is not None]
    told = [f"block {row['block']}"] if row.get("block") is not None else []
    told += [f"beside {row['run_b']}"] if row.get("run_b") else []
    told += [f"{' + '.join(counts)} records"] if counts else []
    return f" ({', '.join(told)})" if told else ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
