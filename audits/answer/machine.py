"""audit.json: an answer for machines; `docs/audit_json.md` says what each field means."""

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from audits.answer.answer import Answer, Figure, Found, ModelAnswer, Statement
from audits.answer.judging import GAPS, Judged, Row, judged_attacks, judged_gaps, params_of
from audits.membership.any_leak import MAX_T
from audits.membership.attacks import describe
from audits.membership.ceiling_rows import AUROC_UPPER, UNIT_AUROC
from audits.membership.dataset_inference import SET_EFFECT, SETS_DETECTED
from audits.membership.single_records import NAMED, NAMED_SUBJECTS, SHARE_FOUND, TAIL
from audits.rows import Audit
from audits.spans.names import METRICS as SPAN_METRICS
from audits.statistics.verdict import TAIL_METRIC
from common.guarantee import Guarantee

SCHEMA_VERSION = "1.2"
FILE_NAME = "audit.json"

_PACKAGES = ("kd-privacy", "torch", "transformers", "tokenizers", "numpy")
_PROVEN = ("epsilon", "mu", AUROC_UPPER, "tpr_upper_at_fpr_0.1", "tpr_upper_at_fpr_0.01")
_FIGURES = (
    *("auroc", "tpr_at_fpr_0.1", "tpr_at_fpr_0.01", TAIL_METRIC, MAX_T),
    *("epsilon_lower", "mu_lower", UNIT_AUROC, *_PROVEN),
    *(SET_EFFECT, SETS_DETECTED),
    *(SHARE_FOUND, NAMED, NAMED_SUBJECTS, TAIL),
    *("swap_estimate", "auroc_difference", "relative_leakage", "token_accuracy_gap_excess"),
    *GAPS,
    *(f"{one}{gap}" for one in SPAN_METRICS for gap in ("", "_gap")),
    *("exposure", "perplexity", "rouge_l_f1", "teacher_kl", "nats_per_token"),
    *("query_budget", "accuracy_upper"),
)
"""Metrics that stand in audit.json; the tables hold all."""

_LEVEL = 0.95


def audit_json(
    answer: Answer, rows: Sequence[Row], tested: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    """Returns what a machine reads of an answer, in plain values: no number that is not finite, no
    text and no id of a record.

    Args:
        answer: What a reader is told first.
        rows: Rows of the results table at the last step of each run, for every figure and verdict.
        tested: What was tested, one entry for each run, from `audits.answer.tested`.
    """
    whole = [row for row in rows if row.get("task") is None and "length" not in params_of(row)]
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": answer.kind,
        "made_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
        },
        "question": answer.question,
        "answer": answer.sentence,
        "caution": answer.caution or None,
        "advice": list(answer.advice),
        "untested": list(answer.untested),
        "notes": list(answer.notes),
        "attackers": _attackers(whole),
        "tested": [dict(one) for one in tested],
        "models": [_model(one) for one in answer.models],
        "verdicts": [
            _verdict(run, audit, judged)
            for run in dict.fromkeys(str(row["run"]) for row in whole)
            for audit, judged in _judged([row for row in whole if row["run"] == run])
        ],
        "figures": [_row(row) for row in whole if row["metric"] in _FIGURES],
    }


def _attackers(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Returns every membership attack that ran, and what its attacker has."""
    names = [str(row["name"]) for row in rows if row["audit"] == str(Audit.membership)]
    kinds = {name: describe(name) for name in dict.fromkeys(names)}
    return [
        {"attack": name, "title": kind.title, "access": kind.threat_model}
        for name, kind in sorted(kinds.items())
        if kind is not None
    ]


def _model(model: ModelAnswer) -> dict[str, object]:
    worst, beside = model.worst_group, model.utility_beside
    return {
        "run": model.run,
        "label": model.label,
        "role": model.role,
        "shipped": model.shipped,
        "membership": _statement(model.membership),
        "found": _found(model.found),
        "by_access": [
            {
                "access": one.access,
                "membership": _statement(one.membership),
                "found": _found(one.found),
            }
            for one in model.by_access
        ],
        "swap": None if model.swap is None else _figure(model.swap),
        "memorization": _statement(model.memorization),
        "worst_group": None if worst is None else {"task": worst[0], "figure": _figure(worst[1])},
        "blocks": None if model.blocks is None else asdict(model.blocks),
        "utility": _statement(model.utility),
        "utility_beside": None
        if beside is None
        else {"model": beside[0], "figure": _figure(beside[1])},
        "skipped_records": model.skipped,
        "cut_records": model.cut,
        "cautions": list(model.cautions),
        "guarantee": None if model.guarantee is None else _guarantee(model.guarantee),
    }


def _guarantee(told: Guarantee) -> dict[str, object]:
    names = ("covers", "does_not_cover", "voided_by")
    numbers = {name: getattr(told, name) for name in ("epsilon", "delta", "mu")}
    return {
        "holds": told.holds,
        "line": told.line,
        "certificate": str(told.certificate),
        "defence": told.defence,
        **numbers,
        "unit": told.unit,
        "neighbours": told.neighbours,
        **{name: list(getattr(told, name)) for name in names},
    }


def _found(found: Sequence[Found]) -> list[dict[str, object]]:
    return [{"false_per_100": one.false_per_100, "figure": _figure(one.figure)} for one in found]


def _statement(told: Statement | None) -> dict[str, object] | None:
    if told is None:
        return None
    verdict = told.verdict
    return {
        "name": told.name,
        "title": told.title,
        "figure": _figure(told.figure),
        "verdict": None if verdict is None else {"word": verdict.word, "reason": verdict.why},
        "baseline": told.baseline or None,
        "access": told.threat_model or None,
    }


def _figure(figure: Figure) -> dict[str, object]:
    ends = {name: _finite(getattr(figure, name)) for name in ("value", "lower", "upper")}
    return {
        "metric": figure.metric,
        **ends,
        "level": figure.level,
        "n_members": figure.n_members,
        "n_nonmembers": figure.n_nonmembers,
        "n_replicates": figure.n_replicates,
    }


def _judged(rows: Sequence[Row]) -> list[tuple[Audit, Judged]]:
    """Returns the verdicts of one run on every attack and memorization measure."""
    membership, memorization = (
        [
            row
            for row in rows
            if row["audit"] == str(audit) and row["block"] is None and row["run_b"] is None
        ]
        for audit in (Audit.membership, Audit.memorization)
    )
    return [
        *((Audit.membership, one) for one in judged_attacks(membership)),
        *((Audit.memorization, one) for one in judged_gaps(memorization, membership)),
    ]


def _verdict(run: str, audit: Audit, judged: Judged) -> dict[str, object]:
    row = judged.row
    return {
        "run": run,
        "audit": str(audit),
        **_named(row),
        "texts_alone_tell": judged.texts,
        "word": judged.verdict.word,
        "reason": judged.verdict.why,
    }


def _named(row: Row) -> dict[str, object]:
    names = {name: row[name] for name in ("name", "metric", "population")}
    return {**names, "params": params_of(row)}


def _row(row: Row) -> dict[str, object]:
    """Returns one figure with all that says what it is."""
    counts = ("n_members", "n_nonmembers", "skipped")
    baseline = row["run_b"] or params_of(row).get("against")
    return {
        **{name: row[name] for name in ("run", "audit", "block")},
        **_named(row),
        **{name: _finite(row[name]) for name in ("value", "lower", "upper", "p_value")},
        # The certified bounds are of 97.5% below and of 95% above, and what is proven has no level.
        "level": None if row["metric"] in (TAIL_METRIC, *_PROVEN) else _LEVEL,
        **{name: None if row[name] is None else int(float(str(row[name]))) for name in counts},
        "baseline": baseline,
        "caution": _caution(row),
    }


def _caution(row: Row) -> str | None:
    if row["audit"] == str(Audit.guarantee) and _finite(row["value"]) is None:
        return "nothing is guaranteed"
    if _finite(row["value"]) is None:
        return "not measurable with these records"
    return "the texts alone tell the record sets apart" if row["shifted"] is True else None


def _version(package: str) -> str | None:
    """Returns the version that is installed; None of what runs from its folder."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _finite(value: object) -> float | None:
    number = None if value is None else float(str(value))
    return None if number is None or not math.isfinite(number) else number
