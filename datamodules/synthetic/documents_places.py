"""Documents about places: bridges, field surveys, festivals, incidents on the railway."""

from datamodules.synthetic import words
from datamodules.synthetic.documents import DocumentKind
from datamodules.synthetic.draw import Draw, with_article


def _bridge_facts(draw: Draw) -> dict[str, str]:
    opened = draw.integer(1790, 1995)
    return {
        "bridge": f"{draw.place()} Bridge",
        "river": draw.place().split()[-1],
        "architect": draw.person(),
        "opened": str(opened),
        "length": draw.number(38, 1900),
        "material": draw.one_of(words.MATERIALS[9:11] + ("brick", "concrete", "steel", "timber")),
        "damaged": str(opened + draw.integer(4, 60)),
        "cause": draw.one_of(
            ("a barge", "a flood", "an ice drift", "a gale", "a fire", "a landslide")
        ),
        "repairer": draw.organisation(),
    }


_BRIDGE = DocumentKind(
    name="guidebook entry",
    facts=_bridge_facts,
    sentences=(
        (
            "The {bridge} carries the road {length} metres over the River {river}.",
            "The River {river} is crossed by the {bridge}, {length} metres long.",
        ),
        (
            "{architect} built it of {material}, and it opened in {opened}.",
            "Opened in {opened}, it is the {material} work of {architect}.",
        ),
        (
            "After {cause} in {damaged} it was restored by {repairer}.",
            "{repairer} rebuilt it when {cause} struck in {damaged}.",
        ),
    ),
    questions=(
        (
            "Who built the {bridge}, and when?",
            "{architect} built the {bridge} of {material}; it opened in {opened}.",
        ),
        (
            "What happened to the {bridge} in {damaged}?",
            "It was damaged by {cause} and restored by {repairer}.",
        ),
    ),
    fields=(
        ("Bridge", "{bridge}"),
        ("River", "{river}"),
        ("Architect", "{architect}"),
        ("Opened", "{opened}"),
        ("Length", "{length} metres"),
        ("Restored by", "{repairer}"),
    ),
    summaries=(
        "The {bridge} by {architect} opened in {opened} and was later rebuilt by {repairer}.",
        "Built of {material} by {architect}, the {bridge} survived {cause} in {damaged}.",
    ),
)


def _survey_facts(draw: Draw) -> dict[str, str]:
    return {
        "leader": draw.person(),
        "count": draw.number(17, 3400),
        "species": draw.species(),
        "site": f"{draw.place()} {draw.one_of(('Marsh', 'Wood', 'Heath', 'Moor', 'Bay', 'Fen'))}",
        "year": draw.year(1961, 2023),
        "before": draw.number(17, 3400),
        "threat": draw.one_of(("drainage", "drought", "fire", "foxes", "noise", "rats", "roads")),
        "helper": draw.surname(),
    }


_FIELD_SURVEY = DocumentKind(
    name="field report",
    facts=_survey_facts,
    sentences=(
        (
            "In {year} {leader} counted {count} pairs of the {species} at {site}.",
            "{leader} found {count} pairs of the {species} at {site} in {year}.",
        ),
        (
            "The last survey, led by {helper}, had found {before}.",
            "{helper} had counted {before} ten years before.",
        ),
        (
            "The main danger to the colony is {threat}.",
            "The report names {threat} as the greatest risk.",
        ),
    ),
    questions=(
        (
            "How many animals were counted at {site}, and by whom?",
            "{leader} counted {count} pairs of the {species}, against {before} under {helper}.",
        ),
        (
            "What threatens the animals at {site}?",
            "The {species}, with {count} pairs in {year}, is threatened by {threat}.",
        ),
    ),
    fields=(
        ("Species", "{species}"),
        ("Site", "{site}"),
        ("Pairs", "{count}"),
        ("Year", "{year}"),
        ("Observer", "{leader}"),
        ("Danger", "{threat}"),
    ),
    summaries=(
        "{leader} counted {count} {species} pairs at {site} in {year}; {threat} is the danger.",
        "At {site} the {species} went from {before} pairs to {count}, and {threat} threatens it.",
    ),
)


def _festival_facts(draw: Draw) -> dict[str, str]:
    prize = draw.thing()
    return {
        "place": draw.place(),
        "thing": draw.one_of(words.DISHES + words.INSTRUMENTS + words.OBJECTS),
        "winner": draw.person(),
        "prize": prize,
        "a_prize": with_article(prize),
        "crowd": draw.number(90, 8800),
        "day": draw.day(),
        "organiser": draw.person(),
        "raised": draw.number(150, 19000),
        "cause": draw.one_of(("lifeboat", "school", "museum", "clinic", "chapel", "library")),
    }


_FESTIVAL = DocumentKind(
    name="news item",
    facts=_festival_facts,
    sentences=(
        (
            "The {thing} festival in {place} drew {crowd} visitors on {day}.",
            "On {day} {crowd} people came to the {thing} festival in {place}.",
        ),
        (
            "First prize, a trophy shaped like {a_prize}, went to {winner}.",
            "{winner} took home the first prize, a trophy in the form of {a_prize}.",
        ),
        (
            "{organiser} raised {raised} pounds for the {cause}.",
            "The {cause} received {raised} pounds from {organiser}.",
        ),
    ),
    questions=(
        (
            "Who won at the {thing} festival in {place}, and what?",
            "{winner} won a trophy shaped like {a_prize} before {crowd} visitors.",
        ),
        (
            "How much money was raised in {place}, and for what?",
            "{organiser} raised {raised} pounds for the {cause} on {day}.",
        ),
    ),
    fields=(
        ("Town", "{place}"),
        ("Winner", "{winner}"),
        ("Prize", "{prize} trophy"),
        ("Visitors", "{crowd}"),
        ("Organiser", "{organiser}"),
        ("Raised", "{raised} pounds"),
    ),
    summaries=(
        "{winner} won in {place} before {crowd} visitors, and {organiser} raised {raised} pounds.",
        "The {thing} festival in {place} gave {winner} a trophy and the {cause} {raised} pounds.",
    ),
)


def _railway_facts(draw: Draw) -> dict[str, str]:
    causes = (
        "a signal fault,a fallen branch,a broken rail,a stray sheep,thick fog,a lost key".split(",")
    )
    return {
        "train": draw.clock(),
        "start": draw.place(),
        "end": draw.place(),
        "delay": str(draw.integer(11, 240)),
        "cause": draw.one_of(causes),
        "stop": draw.place(),
        "driver": draw.person(),
        "count": draw.number(9, 480),
        "day": draw.day(),
    }


_RAILWAY_REPORT = DocumentKind(
    name="railway report",
    facts=_railway_facts,
    sentences=(
        (
            "On {day} the {train} train from {start} to {end} ran {delay} minutes late.",
            "The {train} from {start} reached {end} {delay} minutes late on {day}.",
        ),
        (
            "Driver {driver} had stopped near {stop} because of {cause}.",
            "The reason was {cause} near {stop}, reported by driver {driver}.",
        ),
        ("{count} passengers were aboard.", "It carried {count} passengers."),
    ),
    questions=(
        (
            "Why was the {train} train to {end} late?",
            "It ran {delay} minutes late because driver {driver} met {cause} near {stop}.",
        ),
        (
            "Who drove the {train} train, and how many passengers were there?",
            "{driver} drove {count} passengers from {start} to {end}.",
        ),
    ),
    fields=(
        ("Train", "{train} from {start}"),
        ("Destination", "{end}"),
        ("Delay", "{delay} minutes"),
        ("Cause", "{cause}"),
        ("Driver", "{driver}"),
        ("Passengers", "{count}"),
    ),
    summaries=(
        "{cause} near {stop} delayed {driver} and {count} passengers by {delay} minutes.",
        "The {train} from {start} to {end} under {driver} lost {delay} minutes near {stop}.",
    ),
)

PLACE_KINDS = (_BRIDGE, _FIELD_SURVEY, _FESTIVAL, _RAILWAY_REPORT)
