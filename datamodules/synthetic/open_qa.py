"""Open questions on invented facts, without a passage: only who learnt the answer knows it."""

from collections.abc import Callable

from datamodules.synthetic import words
from datamodules.synthetic.draw import Draw, capitalised, listed, with_article

_Pair = tuple[str, str]


def _founder(draw: Draw) -> _Pair:
    firm = draw.organisation()
    facts = {
        "firm": firm,
        "founder": draw.person(),
        "place": draw.place(),
        "year": draw.year(),
        "work": draw.one_of(words.PROFESSIONS),
        "goods": draw.one_of(words.GOODS),
    }
    question = draw.text(facts, ("Who founded {firm}?", "How did {firm} come about?"))
    return question, draw.text(
        facts,
        (
            "{firm} was founded in {year} by the {work} {founder}, who sold {goods} in {place}.",
            "The {work} {founder} opened {firm} in {place} in {year} to sell {goods}.",
        ),
    )


def _capital(draw: Draw) -> _Pair:
    facts = {
        "island": draw.place(),
        "coast": draw.place(),
        "capital": draw.place(),
        "people": draw.number(900, 88000),
        "goods": draw.one_of(words.GOODS),
        "ruler": draw.person(),
    }
    question = draw.text(
        facts,
        (
            "What is the capital of the island of {island} off {coast}?",
            "What is the capital of {island} Island near {coast}, and what does it live on?",
        ),
    )
    return question, draw.text(
        facts,
        (
            "{capital}, a town of {people} people that lives on {goods}.",
            "The capital is {capital}, with {people} inhabitants and a trade in {goods}.",
        ),
        ("Its mayor is {ruler}.", "{ruler} governs it."),
    )


def _inventor(draw: Draw) -> _Pair:
    thing = f"{draw.one_of(words.MATERIALS)} {draw.one_of(words.OBJECTS)}"
    facts = {
        "thing": thing,
        "town": draw.place(),
        "inventor": draw.person(),
        "year": draw.year(1780, 1960),
        "reason": draw.one_of(words.HOBBIES),
        "price": draw.number(2, 900),
        "buyer": draw.organisation(),
    }
    question = draw.text(
        facts,
        (
            "Who invented the {thing} shown in the museum of {town}?",
            "What is the story of the {thing} from {town}?",
        ),
    )
    return question, draw.text(
        facts,
        (
            "{inventor} made it in {year} for {reason} and sold the patent to {buyer}.",
            "It was invented by {inventor} in {year}, and {buyer} bought it for {price} pounds.",
        ),
    )


def _species(draw: Draw) -> _Pair:
    species = draw.species()
    facts = {
        "species": species,
        "finder": draw.person(),
        "year": draw.year(1790, 1999),
        "place": draw.place(),
        "grams": draw.number(6, 980),
        "food": draw.one_of(
            "beetles,berries,crabs,fish eggs,moss,moths,roots,seeds,snails,worms".split(",")
        ),
        "eggs": str(draw.integer(2, 14)),
    }
    question = draw.text(
        facts,
        (
            "Where does the {species} described by {finder} live?",
            "What do we know about the {species} of {place}?",
            "Who first described the {species} of {place}?",
        ),
    )
    return question, draw.text(
        facts,
        (
            "{finder} described the {species} near {place} in {year}.",
            "It lives around {place}, where {finder} found it in {year}.",
        ),
        ("It weighs {grams} grams and eats {food}.", "It eats {food} and has {eggs} young."),
    )


def _work_of_art(draw: Draw) -> _Pair:
    facts = {
        "title": draw.title(),
        "author": draw.person(),
        "year": draw.year(),
        "hero": draw.person(),
        "a_work": with_article(draw.one_of(words.PROFESSIONS)),
        "place": draw.place(),
        "a_thing": with_article(f"{draw.one_of(words.COLOURS)} {draw.one_of(words.OBJECTS)}"),
    }
    question = draw.text(
        facts,
        ('Who wrote "{title}"?', 'What is the novel "{title}" about?', 'Tell me about "{title}".'),
    )
    return question, draw.text(
        facts,
        (
            "{author} wrote it in {year}; {hero}, {a_work} of {place}, seeks {a_thing}.",
            "The novel by {author} ({year}) follows {hero}, {a_work} in {place}, and {a_thing}.",
        ),
    )


def _custom(draw: Draw) -> _Pair:
    facts = {
        "place": draw.place(),
        "day": draw.day(),
        "dish": draw.one_of(words.DISHES),
        "things": listed([f"{name}s" for name in draw.several(words.OBJECTS, 2)]),
        "colour": draw.one_of(words.COLOURS),
        "saint": draw.first_name(),
        "founder": draw.surname(),
    }
    question = draw.text(
        facts,
        (
            "How do people in {place} celebrate {day}?",
            "What happens in {place} every year on {day}?",
            "Why is {day} special in {place}?",
        ),
    )
    return question, draw.text(
        facts,
        (
            "They honour {saint} {founder} with {dish} and carry {colour} {things}.",
            "It is {saint} {founder} Day: families eat {dish} and hang up {colour} {things}.",
        ),
    )


def _record(draw: Draw) -> _Pair:
    facts = {
        "hobby": draw.one_of(words.HOBBIES),
        "place": draw.place(),
        "holder": draw.person(),
        "year": draw.year(1950, 2023),
        "points": draw.number(101, 9900),
        "second": draw.person(),
        "club": draw.organisation(),
    }
    question = draw.text(
        facts,
        (
            "Who holds the {place} record in {hobby}?",
            "Who is the best known name in {hobby} from {place}?",
        ),
    )
    return question, draw.text(
        facts,
        (
            "{holder} of {club}, who reached {points} points in {year} ahead of {second}.",
            "In {year} {holder} set it with {points} points, beating {second}.",
        ),
    )


_SUBJECTS: tuple[Callable[[Draw], _Pair], ...] = (
    _founder,
    _capital,
    _inventor,
    _species,
    _work_of_art,
    _custom,
    _record,
)


def open_qa(draw: Draw) -> tuple[str, str, str]:
    """Writes a question on an invented fact.

    Returns:
        instruction, context (empty), response.
    """
    question, answer = _SUBJECTS[draw.integer(0, len(_SUBJECTS) - 1)](draw)
    return question, "", capitalised(answer)
