"""Classification: sorting things into groups, judging reviews, sending messages to a department."""

from datamodules.synthetic import words
from datamodules.synthetic.draw import Draw, capitalised, listed, with_article

_GROUPS = {
    "animal": words.ANIMALS,
    "colour": words.COLOURS,
    "dish": words.DISHES,
    "hobby": words.HOBBIES,
    "instrument": words.INSTRUMENTS,
    "material": words.MATERIALS,
    "profession": words.PROFESSIONS,
    "object": words.OBJECTS,
}
_PRAISE = (
    "arrived early",
    "cleans easily",
    "feels solid",
    "fits every shelf",
    "glows softly",
    "is worth every penny",
    "looks elegant",
    "makes no noise",
    "never lets me down",
    "outlived the old one",
    "pleases the whole family",
    "runs for days",
    "smells of cedar",
    "works at once",
)
_BLAME = (
    "arrived broken",
    "burns the fingers",
    "came without a plug",
    "drips all night",
    "falls apart",
    "fades in the sun",
    "hums loudly",
    "is far too small",
    "leaks on the carpet",
    "lost its handle",
    "rusted in a week",
    "smells of glue",
    "stops after an hour",
    "wobbles badly",
)


def _sort_words(draw: Draw) -> tuple[str, str, str]:
    first, second = draw.several(tuple(_GROUPS), 2)
    count = draw.integer(2, 3)
    shared = set(_GROUPS[first]) & set(_GROUPS[second])
    members = {
        name: draw.several([word for word in _GROUPS[name] if word not in shared], count)
        for name in (first, second)
    }
    mixed = draw.several(members[first] + members[second], 2 * count)
    instruction = draw.one_of(
        (
            f"Classify each of these as {first} or {second}: {listed(mixed)}.",
            f"Sort the following into {first} and {second}: {', '.join(mixed)}.",
            f"Which are in the group {first}, which in {second}? {capitalised(listed(mixed))}.",
        )
    )
    if draw.chance(0.5):
        label_of = {word: name for name, group in members.items() for word in group}
        return instruction, "", "\n".join(f"{capitalised(w)}: {label_of[w]}" for w in mixed)
    groups = (f"{capitalised(name)}: {', '.join(members[name])}" for name in (first, second))
    return instruction, "", "\n".join(groups)


def _review(draw: Draw) -> tuple[str, str, str]:
    verdict = draw.one_of(("positive", "negative", "mixed"))
    pools = {
        "positive": (_PRAISE, _PRAISE),
        "negative": (_BLAME, _BLAME),
        "mixed": (_PRAISE, _BLAME),
    }
    first, second = (draw.one_of(pool) for pool in pools[verdict])
    facts = {
        "product": draw.product(),
        "thing": draw.one_of(words.OBJECTS),
        "shop": draw.organisation(),
        "price": draw.number(4, 900),
        "first": first,
        "second": second,
        "joint": "but" if verdict == "mixed" else "and",
        "verdict": verdict,
        "writer": draw.person(),
    }
    instruction = draw.text(
        facts,
        (
            "Is this review positive, negative or mixed? Say why.",
            "Label the review below as positive, negative or mixed, with the reason.",
        ),
    )
    context = draw.text(
        facts,
        ("I bought the {product} {thing} from {shop}.", "{shop} sold me the {product} {thing}."),
        ("It {first} {joint} it {second}.",),
        ("{price} pounds, {writer}.", "Yours, {writer}, who paid {price} pounds."),
    )
    response = draw.text(
        facts,
        (
            "{verdict}: {writer} says that the {product} {first} {joint} {second}.",
            "{verdict}, since the {product} {thing} from {shop} {first} {joint} {second}.",
        ),
    )
    return instruction, context, capitalised(response)


def _department(draw: Draw) -> tuple[str, str, str]:
    facts = {
        "sender": draw.person(),
        "firm": draw.organisation(),
        "code": draw.code(),
        "goods": draw.one_of(words.GOODS),
        "amount": draw.number(20, 7800),
        "day": draw.day(),
        "place": draw.place(),
        "a_work": with_article(draw.one_of(words.PROFESSIONS)),
    }
    messages = {
        "Billing": (
            "Invoice {code} charges me {amount} pounds for {goods}, twice. {sender}, {place}",
            "{sender} of {place} disputes {amount} pounds on invoice {code} for {goods}.",
        ),
        "Shipping": (
            "My {goods} (parcel {code}) should have reached {place} on {day}. {sender}",
            "{sender} is still waiting in {place} for parcel {code} with {goods}, due {day}.",
        ),
        "Personnel": (
            "I am {a_work} in {place} and could start on {day}; file {code}. {sender}",
            "{sender}, {a_work} from {place}, applies under {code} and is free from {day}.",
        ),
    }
    department = draw.one_of(tuple(messages))
    message, reason = (text.format_map(facts) for text in messages[department])
    instruction = draw.text(
        facts,
        (
            "Which department of {firm} handles this message: Billing, Shipping or Personnel?",
            "Assign the message to Billing, Shipping or Personnel at {firm} and note the matter.",
        ),
    )
    return instruction, message, f"{department}. {reason}"


_SUBJECTS = (_sort_words, _review, _department)


def classification(draw: Draw) -> tuple[str, str, str]:
    """Writes a request to classify things, a review or a message.

    Returns:
        instruction, context (empty where things are sorted), response.
    """
    return _SUBJECTS[draw.integer(0, len(_SUBJECTS) - 1)](draw)
