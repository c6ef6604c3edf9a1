"""The answer in plain words, and what to do, as far as the figures of single models tell it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from audits.answer.answer import Answer, Found, ModelAnswer
from audits.answer.judging import Row
from audits.membership.single_records import SINGLE_RECORDS
from audits.rows import Audit
from audits.statistics.verdict import RECORDS_FOR_CLEAN
from common.roles import COUNTERFACTUAL_ROLES

ENOUGH_AT_1_IN_100 = 1_000
"""Non-members of which ten are falsely accused at 1 in 100, as an interval needs."""

_COUNTS = "no one two three four five six seven eight nine ten eleven twelve".split()
_GUESS = 50
_COUNTERFACTUAL = (
    "This is a counterfactual: the held-out records were trained on in place of the private ones, "
    "so that an AUROC below 0.5 is what is expected."
)
_AUDITS = {
    Audit.membership: "whether attackers tell members from others",
    SINGLE_RECORDS: "which of them are exposed; one model alone cannot say, models that a study "
    "trains with and without each of them can",
    Audit.memorization: "what is written word for word",
    Audit.blocks: "single blocks, for attackers who read hidden states or disturb weights",
    Audit.utility: "whether anything was learnt",
}


def plain_sentence(models: Sequence[ModelAnswer]) -> str:
    """Returns who gives private records away and how plainly, in one to three sentences.

    Args:
        models: What was audited, in the order of reading; those that are not shipped are told
            beside the others.
    """
    shipped = [model for model in models if model.shipped and model.membership is not None]
    if not shipped:
        return "No membership audit is finished yet."
    words = dict.fromkeys(_word(model) for model in shipped)
    # The gravest first, whatever the order of the models.
    ordered = [word for word in _SAID if word in words]
    told = [_group([one for one in shipped if _word(one) == word], shipped) for word in ordered]
    return " ".join([*told, *_strength(shipped), *_beside(models)])


def single_answer(
    model: ModelAnswer, audits: Collection[object], notes: Sequence[str] = ()
) -> Answer:
    """Returns the answer of one model that stands alone, whatever its role.

    Args:
        model: What is said of it.
        audits: What `audits_of` its rows returned.
        notes: What else must be known, gravest first.
    """
    alone = replace(model, shipped=True)
    sentence = plain_sentence([alone])
    if model.role in COUNTERFACTUAL_ROLES:
        sentence = _COUNTERFACTUAL
    elif model.membership is None:
        sentence = "Membership was not audited, so that nothing is said of it."
    return Answer(
        kind="model",
        question="Does this model give away which records it was trained on?",
        sentence=sentence,
        models=[model],
        caution=next(iter([*model.cautions, *notes]), ""),
        advice=list(general_advice([alone])),
        untested=untested(audits),
        notes=notes,
    )


def audits_of(rows: Sequence[Row]) -> set[object]:
    """Returns the names of the audits that have rows; single records count as one of them."""
    judged = {SINGLE_RECORDS} & {str(row["name"]) for row in rows}
    return {row["audit"] for row in rows} | judged


def untested(audits: Collection[object]) -> list[str]:
    """Returns what no audit looked at.

    Args:
        audits: What `audits_of` returned.
    """
    return [
        f"{str(audit).replace('_', ' ')}: {what}"
        for audit, what in _AUDITS.items()
        if str(audit) not in audits
    ]


def general_advice(models: Sequence[ModelAnswer]) -> Iterator[str]:
    """Yields what follows from the figures of the models that are shipped, the most urgent first.

    Args:
        models: What was audited.
    """
    shipped = [model for model in models if model.shipped and model.membership is not None]
    words = {_word(model) for model in shipped}
    if "reversed" in words:
        yield "Check which side is which, and the reference: members look less known than others."
    if "undecided" in words:
        yield (
            "Take both sides from one source, dealt by coin: their texts alone may tell members "
            "from non-members, so that no attack can be trusted."
        )
    if "leaks" in words:
        yield (
            "Show no model that leaks to anyone who must not learn whose records trained it. To be "
            "tried against it: fewer epochs, near-duplicates removed, another technique. Only a "
            "further audit says whether it helped."
        )
    if "nothing shown" in words:
        yield (
            f"To show that a model is clean, audit about {RECORDS_FOR_CLEAN:,} records a side; "
            "what was not seen with fewer is not shown to be absent."
        )
    few = [found.figure.n_nonmembers for model in shipped for found in _rare(model)]
    fewest = min((number for number in few if number is not None), default=ENOUGH_AT_1_IN_100)
    if fewest < ENOUGH_AT_1_IN_100:
        yield (
            f"With {ENOUGH_AT_1_IN_100:,} non-members or more, what an attacker finds at 1 false "
            f"accusation in 100 becomes a firm figure; here there are {fewest:,}."
        )


def _rare(model: ModelAnswer) -> list[Found]:
    return [found for found in model.found if found.false_per_100 <= 1.0]


def _word(model: ModelAnswer) -> str:
    statement = model.membership
    return "" if statement is None or statement.verdict is None else statement.verdict.word


_SAID = {
    "leaks": ("gives private records away", "give private records away"),
    "reversed": (
        "looks as if it had met the wrong side: it knows members less than non-members",
        "look as if they had met the wrong side: they know members less than non-members",
    ),
    "undecided": ("cannot be judged", "cannot be judged"),
    "nothing shown": ("shows no leak", "show no leak"),
    "clean": ("gives nothing away, within the margins", "give nothing away, within the margins"),
}


def _group(models: Sequence[ModelAnswer], shipped: Sequence[ModelAnswer]) -> str:
    """Returns what is said of models of one verdict, with the reason where no leak is shown."""
    subject, several = _subject(models, shipped)
    said = _SAID[_word(models[0])][several]
    why = _why(models)
    return f"{subject[0].upper()}{subject[1:]} {said}{f': {why}' if why else ''}."


def _why(models: Sequence[ModelAnswer]) -> str:
    statement = models[0].membership
    if statement is None or statement.verdict is None:
        return ""
    if statement.verdict.word == "nothing shown":
        reason = statement.verdict.why.split(";")[0]
        return f"with {statement.figure.count_text} {reason}"
    return _UNJUDGED.get(statement.verdict.why.partition(", and ")[2].split(";")[0], "")


_UNJUDGED = {
    "the texts alone tell the record sets apart": "the texts alone tell the two record sets apart, "
    "and an attack may measure them in place of the model",
    "the texts are not shown to be of one distribution": "nobody knows whether the two record sets "
    "are alike, and an attack may measure that in place of the model",
}
"""Reasons of `audits.statistics.verdict`, in plain words."""


def _subject(models: Sequence[ModelAnswer], shipped: Sequence[ModelAnswer]) -> tuple[str, bool]:
    """Returns who is spoken of, and whether that is more than one model."""
    if len(shipped) == 1 and models[0].role not in ("teacher", "student"):
        return "the model", False
    parts = []
    for role in dict.fromkeys(model.role for model in models):
        own = [model for model in models if model.role == role]
        every = [model for model in shipped if model.role == role]
        if len(every) == 1:
            parts.append(f"the {role}")
        elif len(own) == len(every):
            parts.append(f"both {role}s" if len(own) == 2 else f"all {_count(len(own))} {role}s")
        else:
            names = ", ".join(model.label.removeprefix(f"{role.capitalize()} · ") for model in own)
            parts.append(f"{_count(len(own))} of {_count(len(every))} {role}s ({names})")
    return " and ".join(parts), len(models) > 1


def _count(number: int) -> str:
    return _COUNTS[number] if number < len(_COUNTS) else str(number)


def _strength(shipped: Sequence[ModelAnswer]) -> list[str]:
    """Returns how often an attacker is right about a pair of records, by role."""
    leaking = [model for model in shipped if _word(model) == "leaks"]
    parts: list[str] = []
    for role in dict.fromkeys(model.role for model in leaking):
        values = [_share(model) for model in leaking if model.role == role]
        shown = (
            f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"
        )
        of = "" if len(shipped) == 1 else f" for the {role}{'s' if len(values) > 1 else ''}"
        parts.append(f"{shown} times in 100{of}" if not parts else f"{shown} times{of}")
    if not parts or leaking[0].membership is None:
        return []
    needs = leaking[0].membership.threat_model
    return [
        f"An attacker who {needs or 'scores records'} tells a private record from one that was "
        f"never met {' and '.join(parts)}; a guess is right {_GUESS} times."
    ]


def _beside(models: Sequence[ModelAnswer]) -> list[str]:
    """Returns what the control says, which met no teacher."""
    controls = [one for one in models if one.role == "control" and one.membership is not None]
    if not controls:
        return []
    return [f"For the control, which met no teacher, it is {_share(controls[0])} times."]


def _share(model: ModelAnswer) -> int:
    value = None if model.membership is None else model.membership.figure.value
    return _GUESS if value is None else round(100 * value)
