"""Free writing: letters, advertisements, short stories, toasts, invitations and notices."""

from collections.abc import Callable

from datamodules.synthetic import words
from datamodules.synthetic.draw import Draw, capitalised, with_article

_Pair = tuple[str, str]


def _letter(draw: Draw) -> _Pair:
    facts = {
        "sender": draw.person(),
        "receiver": draw.person(),
        "a_thing": with_article(draw.thing()),
        "event": draw.one_of(("wedding", "birthday", "house-warming", "retirement", "name day")),
        "place": draw.place(),
        "hobby": draw.one_of(words.HOBBIES),
        "day": draw.day(),
    }
    instruction = draw.text(
        facts,
        (
            "Write a short thank-you letter from {sender} to {receiver} after a {event}.",
            "{sender} wants to thank {receiver} for a {event} present. Draft a few lines.",
        ),
    )
    return instruction, draw.text(
        facts,
        ("Dear {receiver}, thank you for {a_thing}.", "Dear {receiver}, {a_thing}! What a joy."),
        (
            "Come to {place} on {day} for some {hobby}. Yours, {sender}",
            "I shall take it to {place} on {day}. Love, {sender}",
        ),
    )


def _advertisement(draw: Draw) -> _Pair:
    thing = draw.one_of(words.OBJECTS)
    facts = {
        "product": draw.product(),
        "thing": thing,
        "a_thing": with_article(thing),
        "firm": draw.organisation(),
        "colour": draw.one_of(words.COLOURS),
        "material": draw.one_of(words.MATERIALS),
        "price": draw.number(7, 890),
        "grams": draw.number(40, 2900),
        "user": draw.one_of(words.PROFESSIONS),
        "day": draw.day(),
    }
    instruction = draw.text(
        facts,
        (
            "Write a product blurb for the {product}, {a_thing} made by {firm}.",
            "{firm} launches {a_thing} called {product}. Write two lines for the catalogue.",
        ),
    )
    return instruction, draw.text(
        facts,
        (
            "Meet the {product}: {colour} {material}, {grams} grams, loved by every {user}.",
            "{colour} {material}, only {grams} grams: the {product} is the {thing} for any {user}.",
        ),
        ("Yours for {price} pounds from {day}.", "From {day} at {firm}, {price} pounds."),
    )


def _story(draw: Draw) -> _Pair:
    work = draw.one_of(words.PROFESSIONS)
    facts = {
        "hero": draw.person(),
        "a_work": with_article(work),
        "work": work,
        "a_thing": with_article(draw.thing()),
        "place": draw.place(),
        "friend": draw.first_name(),
        "animal": draw.one_of(words.ANIMALS),
        "scene": f"{draw.one_of(words.ADJECTIVES)} {draw.one_of(words.SCENE_NOUNS)}",
        "title": draw.title(),
    }
    instruction = draw.text(
        facts,
        (
            "Tell a very short story set in {place} about {a_work} and the {scene}.",
            'Write a story of two sentences, set in {place}, with the title "{title}".',
            "Make up a bedtime story in which {hero} meets {friend}.",
        ),
    )
    return instruction, draw.text(
        facts,
        (
            "In {place} the {work} {hero} found {a_thing} beside the {scene}.",
            "{hero}, {a_work} of {place}, once traded {a_thing} for the {scene}.",
        ),
        (
            "A talking {animal} named {friend} asked for it and wept.",
            "That night {friend} the {animal} came to take it home.",
        ),
    )


def _toast(draw: Draw) -> _Pair:
    facts = {
        "guest": draw.person(),
        "host": draw.person(),
        "years": str(draw.integer(11, 58)),
        "firm": draw.organisation(),
        "hobby": draw.one_of(words.HOBBIES),
        "dish": draw.one_of(words.DISHES),
        "thing": draw.thing(),
        "place": draw.place(),
    }
    instruction = draw.text(
        facts,
        (
            "Write a toast for {guest}, who leaves {firm}.",
            "{host} must say a few words when {guest} retires from {firm}. Write them.",
        ),
    )
    return instruction, draw.text(
        facts,
        (
            "To {guest}: {years} years, one {thing} and plate after plate of {dish}!",
            "Friends, {guest} gave us {years} years, {dish} and that {thing}.",
        ),
        (
            "May {place} be full of {hobby}. {host}",
            "{place} and its {hobby} are lucky, says {host}.",
        ),
    )


def _invitation(draw: Draw) -> _Pair:
    street = f"{draw.surname()} {draw.one_of(('Street', 'Lane', 'Road', 'Row'))}"
    facts = {
        "host": draw.person(),
        "place": draw.place(),
        "day": draw.day(),
        "clock": draw.clock(),
        "hobby": draw.one_of(words.HOBBIES),
        "dish": draw.one_of(words.DISHES),
        "instrument": draw.one_of(words.INSTRUMENTS),
        "player": draw.person(),
        "house": f"{draw.integer(2, 190)} {street}",
    }
    instruction = draw.text(
        facts,
        (
            "Write an invitation to an evening of {hobby} at the home of {host}.",
            "{host} invites the neighbours in {place} for {dish}. Write the card.",
        ),
    )
    return instruction, draw.text(
        facts,
        (
            "Come to {house}, {place}, on {day} at {clock} for {hobby} and {dish}.",
            "{dish} and {hobby} await you on {day} at {clock}: {house}, {place}.",
        ),
        ("{player} plays the {instrument}.", "With {player} on the {instrument}. {host}"),
    )


def _notice(draw: Draw) -> _Pair:
    thing = draw.thing()
    facts = {
        "owner": draw.person(),
        "thing": thing,
        "a_thing": with_article(thing),
        "place": draw.place(),
        "spot": f"{draw.place()} {draw.one_of(('station', 'market', 'pier', 'library', 'church'))}",
        "day": draw.day(),
        "reward": draw.number(5, 480),
        "mark": draw.code(),
        "friend": draw.first_name(),
    }
    instruction = draw.text(
        facts,
        (
            "Write a lost-and-found notice for {owner} of {place}.",
            "{owner} lost something near {place} on {day}. Draft a notice for the window.",
        ),
    )
    return instruction, draw.text(
        facts,
        (
            "Lost on {day} at {spot}: {a_thing} marked {mark}.",
            "Who has seen {a_thing}, number {mark}, left at {spot}?",
        ),
        ("{reward} pounds reward from {owner}.", "{friend} and {owner} offer {reward} pounds."),
    )


_SUBJECTS: tuple[Callable[[Draw], _Pair], ...] = (
    _letter,
    _advertisement,
    _story,
    _toast,
    _invitation,
    _notice,
)


def generation(draw: Draw) -> tuple[str, str, str]:
    """Writes a request for a short text, and the text.

    Returns:
        instruction, context (empty), response.
    """
    instruction, response = _SUBJECTS[draw.integer(0, len(_SUBJECTS) - 1)](draw)
    return instruction, "", capitalised(response)
