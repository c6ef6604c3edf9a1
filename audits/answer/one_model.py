"""The answer on one model, from the rows of its results table."""

from collections.abc import Sequence

from audits.answer.answer import AccessAnswer, BlockRange, Figure, Found, ModelAnswer, Statement
from audits.answer.by_access import by_access
from audits.answer.judging import Judged, Row, judged_attacks, judged_gaps, params_of
from audits.guarantee import guarantee_of
from audits.known_text import warnings_of
from audits.membership.any_leak import MAX_T
from audits.membership.attacks import Loss, Reference, describe
from audits.membership.single_records import NAMED, POOL, SHARE_FOUND, SINGLE_RECORDS
from audits.membership.worst_task import WORST_TASK
from audits.record_counts import AUDIT as RECORDS
from audits.rows import Audit
from audits.scoring.references import BASE
from audits.statistics.verdict import gap_verdict
from common.roles import COUNTERFACTUAL_ROLES

FALSE_PER_100 = (10.0, 1.0)
"""False accusations among 100 records that were never met, at which findings are told."""

TOKEN_ACCURACY = "token_accuracy"
"""The measure that memorization is told by; its gap is members' less non-members'."""

_UTILITY = ("perplexity", "rouge_l_f1", "teacher_kl")
_ROLES_SHIPPED = ("student", "teacher", "direct", "external")
_LEVEL = 0.05


def model_answer(
    rows: Sequence[Row], *, label: str, run: str, role: str, baseline: str = "non-members"
) -> ModelAnswer:
    """Returns what is said of one model.

    Membership is told by the reference attack against the base where there is one, else by the
    loss, else by the first attack in the table: no result decides it. Memorization by the token
    accuracy of members beyond non-members'.

    Args:
        rows: The run's rows of the results table at its last step, by task too.
        label: What readers call the model.
        run: Its name in the tables.
        role: Its role in the tables.
        baseline: What the non-members are called.
    """
    whole = [row for row in rows if row.get("task") is None and row.get("block") is None]
    own = {
        audit: [row for row in whole if row["audit"] == str(audit) and row.get("run_b") is None]
        for audit in (Audit.membership, Audit.memorization, Audit.utility)
    }
    by_record = [row for row in own[Audit.membership] if "unit" not in params_of(row)]
    attacks = judged_attacks(by_record)
    best = headline_attack(attacks)
    gaps = judged_gaps(own[Audit.memorization], own[Audit.membership])
    return ModelAnswer(
        label=label,
        run=run,
        role=role,
        membership=None if best is None else _membership(best, baseline),
        found=() if best is None else _found(best),
        by_access=access_answers(attacks, baseline),
        memorization=_memorization(gaps, baseline),
        single_records=_single_records(own[Audit.membership]),
        worst_group=None if best is None else _worst_group(rows, best),
        blocks=_blocks(rows),
        utility=_utility(own[Audit.utility]),
        skipped=max((int(float(str(row.get("skipped") or 0))) for row in by_record), default=0),
        cut=_cut(whole),
        cautions=(
            *warnings_of(whole),
            *([] if role in COUNTERFACTUAL_ROLES else _below_chance(best)),
            *_passed_over(own[Audit.membership], best),
        ),
        shipped=role in _ROLES_SHIPPED,
        guarantee=guarantee_of(whole),
    )


def excess_statement(figure: Figure, shifted: bool | None) -> Statement:
    """Returns memorization beside a counterfactual, judged.

    Args:
        figure: The gap in token accuracy less the counterfactual's.
        shifted: Whether the texts alone tell the sides apart, as `verdict.admitted` has it.
    """
    judged = figure.lower is not None and figure.upper is not None
    verdict = gap_verdict(figure.lower or 0.0, figure.upper or 0.0, shifted) if judged else None
    return Statement(
        Audit.memorization,
        TOKEN_ACCURACY,
        TOKEN_ACCURACY.replace("_", " "),
        figure,
        verdict,
        "its counterfactual over both sides",
    )


def headline_attack(attacks: Sequence[Judged]) -> Judged | None:
    """Returns the attack that a model's membership is told by; None where no attack ran."""

    def place(judged: Judged) -> int:
        name, params = judged.row["name"], params_of(judged.row)
        if name == Reference.name and params.get("reference") == BASE:
            return 0
        return 1 if name == Loss.name else 2

    return min(attacks, key=place, default=None)


def access_answers(attacks: Sequence[Judged], baseline: str) -> tuple[AccessAnswer, ...]:
    """Returns what each kind of access finds of the members that the headline is about.

    Args:
        attacks: Every attack that ran, on every population of members.
        baseline: What the non-members are called.
    """
    best = headline_attack(attacks)
    told = [one for one in attacks if best and one.row["population"] == best.row["population"]]
    return tuple(
        AccessAnswer(seen, _membership(judged, baseline), _found(judged))
        for seen, judged in by_access(told)
    )


def attack_title(row: Row) -> str:
    """Returns what readers know an attack by, with its options."""
    kind = describe(str(row["name"]))
    options = ", ".join(f"{key} {value}" for key, value in params_of(row).items())
    title = str(row["name"]) if kind is None else kind.title
    return f"{title} ({options})" if options else title


def _membership(best: Judged, baseline: str) -> Statement:
    kind = describe(str(best.row["name"]))
    return Statement(
        audit=Audit.membership,
        name=str(best.row["name"]),
        title=attack_title(best.row),
        figure=Figure.of_row(best.row),
        verdict=best.verdict,
        baseline=baseline,
        threat_model="" if kind is None else kind.threat_model,
    )


def _found(best: Judged) -> tuple[Found, ...]:
    rates = {rate: f"tpr_at_fpr_{rate / 100:g}" for rate in FALSE_PER_100}
    return tuple(
        Found(rate, Figure.of_row(best.metrics[metric]))
        for rate, metric in rates.items()
        if metric in best.metrics
    )


def _memorization(gaps: Sequence[Judged], baseline: str) -> Statement | None:
    chosen = [judged for judged in gaps if judged.row["metric"] == f"{TOKEN_ACCURACY}_gap"] or gaps
    if not chosen:
        return None
    best = chosen[0]
    return Statement(
        audit=Audit.memorization,
        name=str(best.row["name"]),
        title=str(best.row["metric"]).removesuffix("_gap").replace("_", " "),
        figure=Figure.of_row(best.row),
        verdict=best.verdict,
        baseline=baseline,
    )


def _single_records(rows: Sequence[Row]) -> tuple[Figure, Figure] | None:
    found = {
        row["metric"]: Figure.of_row(row)
        for row in rows
        if (row["name"], row["population"]) == (SINGLE_RECORDS, POOL)
    }
    return (found[NAMED], found[SHARE_FOUND]) if found else None


def _worst_group(rows: Sequence[Row], best: Judged) -> tuple[str, Figure] | None:
    for row in rows:
        same = row["name"] == best.row["name"] and params_of(row) == params_of(best.row)
        if row["metric"] == WORST_TASK and same and row.get("value") is not None:
            return str(row["task"]), Figure.of_row(row)
    return None


def _blocks(rows: Sequence[Row]) -> BlockRange | None:
    """Returns the range over blocks of the first signal in the table."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["audit"] == str(Audit.blocks) and row["metric"] == "auroc":
            if row["block"] is not None and row["value"] is not None:
                own = found.setdefault((str(row["name"]), str(row["params"])), [])
                own.append(float(str(row["value"])))
    for (signal, _), values in found.items():
        return BlockRange(signal, min(values), max(values), len(values))
    return None


def _utility(rows: Sequence[Row]) -> Statement | None:
    for metric in _UTILITY:
        for row in rows:
            if row["metric"] == metric and row.get("value") is not None:
                title = metric.replace("_", " ")
                figure = Figure.of_row(row)
                return Statement(Audit.utility, str(row["name"]), title, figure)
    return None


def _cut(rows: Sequence[Row]) -> int:
    """Returns how many records were cut, in prompt or response, of all populations."""
    cut = ("prompts_cut", "responses_cut")
    counts = [row["value"] for row in rows if row["audit"] == RECORDS and row["metric"] in cut]
    return round(sum(float(str(count)) for count in counts if count is not None))


def _below_chance(best: Judged | None) -> list[str]:
    """Returns what an AUROC below 0.5 means, whatever verdict the texts allow."""
    figure = None if best is None else Figure.of_row(best.row)
    if figure is None or figure.upper is None or figure.upper >= 0.5:
        return []
    return [
        f"AUROC {figure.text} lies below 0.5, so that non-members look like members: either the "
        "two were exchanged, or the model was trained on the non-members, or the attack's "
        "reference is a wrong one"
    ]


def _passed_over(rows: Sequence[Row], best: Judged | None) -> list[str]:
    """Returns what the headline attack does not show: another attack that tells members apart."""
    if best is None or best.verdict.word not in ("nothing shown", "clean"):
        return []
    for row in rows:
        p_value = row.get("p_value")
        if row["metric"] == MAX_T and p_value is not None and float(str(p_value)) <= _LEVEL:
            largest = params_of(row).get("largest")
            named = f", most by {attack_title({'name': largest})}" if largest else ""
            return [
                f"some attack tells members from non-members (p = {float(str(p_value)):.2g} over "
                f"all attacks together{named}), though the headline attack shows no leak"
            ]
    return []
