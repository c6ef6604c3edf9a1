"""Brainstorming: short lists of ideas, names, gifts and menus."""

from collections.abc import Callable

from datamodules.synthetic import words
from datamodules.synthetic.draw import Draw, capitalised, with_article

_Idea = Callable[[Draw], str]


def _names(draw: Draw) -> tuple[str, _Idea]:
    shop = draw.one_of(
        ("bakery", "bookshop", "café", "florist", "gallery", "guest house", "toy shop")
    )
    facts = {"shop": shop, "owner": draw.person(), "place": draw.place()}
    instruction = draw.text(
        facts,
        (
            "Suggest {{count}} names for a {shop} that {owner} opens in {place}.",
            "{owner} needs a name for a {shop} in {place}. Give {{count}} ideas.",
        ),
    )
    shapes = (
        "The {adjective} {noun}",
        "{noun} and {other}",
        "{surname}'s {noun}",
        "{place} {noun}",
    )

    def idea(draw: Draw) -> str:
        return draw.one_of(shapes).format(
            adjective=capitalised(draw.one_of(words.ADJECTIVES)),
            noun=capitalised(draw.one_of(words.SCENE_NOUNS)),
            other=capitalised(draw.one_of(words.ANIMALS)),
            surname=draw.surname(),
            place=draw.place(),
        )

    return instruction, idea


def _gifts(draw: Draw) -> tuple[str, _Idea]:
    facts = {
        "friend": draw.person(),
        "work": draw.one_of(words.PROFESSIONS),
        "hobby": draw.one_of(words.HOBBIES),
        "age": str(draw.integer(21, 89)),
        "price": str(draw.integer(2, 40) * 5),
    }
    instruction = draw.text(
        facts,
        (
            "Give me {{count}} gift ideas for {friend}, a keen fan of {hobby} who turns {age}.",
            "List {{count}} things to give {friend}, our {work}, for under {price} pounds.",
        ),
    )
    shapes = (
        "{colour} {material} box",
        "{thing} from {firm}",
        "a weekend of {hobby} in {place}",
        "{goods} from {place}",
    )

    def idea(draw: Draw) -> str:
        return draw.one_of(shapes).format(
            colour=with_article(draw.one_of(words.COLOURS)),
            material=draw.one_of(words.MATERIALS),
            thing=with_article(draw.one_of(words.OBJECTS)),
            firm=draw.organisation(),
            hobby=draw.one_of(words.HOBBIES),
            goods=draw.one_of(words.GOODS),
            place=draw.place(),
        )

    return instruction, idea


def _outings(draw: Draw) -> tuple[str, _Idea]:
    facts = {
        "place": draw.place(),
        "group": draw.one_of(
            ("four friends", "a class of ten", "two families", "my parents", "a choir")
        ),
        "day": draw.day(),
        "weekday": draw.one_of(words.WEEKDAYS),
    }
    instruction = draw.text(
        facts,
        (
            "Brainstorm {{count}} things that {group} can do near {place} on {day}.",
            "We are {group} and spend a {weekday} in {place}. Name {{count}} things to do.",
        ),
    )
    shapes = (
        "try {hobby} with {person}",
        "see the {material} {thing} at {place} Museum",
        "eat {dish} at {surname}'s",
        "walk to {place} Mill",
        "watch the {species} at {place}",
        "hear the {instrument} player {person}",
    )

    def idea(draw: Draw) -> str:
        return draw.one_of(shapes).format(
            hobby=draw.one_of(words.HOBBIES),
            person=draw.person(),
            material=draw.one_of(words.MATERIALS),
            thing=draw.one_of(words.OBJECTS),
            dish=draw.one_of(words.DISHES),
            surname=draw.surname(),
            place=draw.place(),
            species=draw.species(),
            instrument=draw.one_of(words.INSTRUMENTS),
        )

    return instruction, idea


def _fundraisers(draw: Draw) -> tuple[str, _Idea]:
    facts = {
        "cause": draw.one_of(
            ("a new roof", "a library bus", "a lifeboat", "a playground", "an organ")
        ),
        "place": draw.place(),
        "amount": draw.number(400, 48000),
        "chair": draw.person(),
    }
    instruction = draw.text(
        facts,
        (
            "How can {place} raise {amount} pounds for {cause}? Name {{count}} ways.",
            "{chair} wants to collect {amount} pounds for {cause}. Offer {{count}} ideas.",
        ),
    )
    shapes = (
        "sell {dish} at {price} pounds",
        "auction {material} {thing} by {person}",
        "run a contest of {hobby} in {place}",
        "ask {firm} for {price} pounds",
        "hold an evening of {instrument} music with {person}",
    )

    def idea(draw: Draw) -> str:
        return draw.one_of(shapes).format(
            dish=draw.one_of(words.DISHES),
            price=draw.number(2, 950),
            material=with_article(draw.one_of(words.MATERIALS)),
            thing=draw.one_of(words.OBJECTS),
            person=draw.person(),
            hobby=draw.one_of(words.HOBBIES),
            place=draw.place(),
            firm=draw.organisation(),
            instrument=draw.one_of(words.INSTRUMENTS),
        )

    return instruction, idea


_SUBJECTS = (_names, _gifts, _outings, _fundraisers)
_COUNTS = {"three": 3, "four": 4}


def brainstorming(draw: Draw) -> tuple[str, str, str]:
    """Writes a request for ideas and a list of three or four.

    Returns:
        instruction, context (empty), response.
    """
    instruction, idea = _SUBJECTS[draw.integer(0, len(_SUBJECTS) - 1)](draw)
    count = draw.one_of(tuple(_COUNTS))
    ideas = [capitalised(idea(draw)) for _ in range(_COUNTS[count])]
    bullets = draw.chance(0.5)
    lines = (f"- {text}" if bullets else f"{n}. {text}" for n, text in enumerate(ideas, start=1))
    return instruction.format(count=count), "", "\n".join(lines)
