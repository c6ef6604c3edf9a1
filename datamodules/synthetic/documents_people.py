"""Documents about people: biographies, clinic notes, match reports, personnel files."""

from datamodules.synthetic import words
from datamodules.synthetic.documents import DocumentKind
from datamodules.synthetic.draw import Draw, listed, with_article

_COMPLAINTS = (
    "a dry cough",
    "a rash",
    "a sore knee",
    "a stiff neck",
    "a swollen ankle",
    "an earache",
    "back pain",
    "blurred vision",
    "chest pain",
    "dizziness",
    "hay fever",
    "headaches",
    "joint pain",
    "poor sleep",
)


def _biography_facts(draw: Draw) -> dict[str, str]:
    born = draw.integer(1860, 1985)
    work = draw.one_of(words.PROFESSIONS)
    return {
        "name": draw.person(),
        "born": str(born),
        "place": draw.place(),
        "work": work,
        "a_work": with_article(work),
        "teacher": draw.person(),
        "moved": str(born + draw.integer(19, 34)),
        "city": draw.place(),
        "title": draw.title(),
    }


_BIOGRAPHY = DocumentKind(
    name="biography",
    facts=_biography_facts,
    sentences=(
        (
            "{name} was born in {place} in {born} and trained as {a_work} under {teacher}.",
            "Born in {place} in {born}, {name} became {a_work} in the workshop of {teacher}.",
        ),
        (
            'After moving to {city} in {moved}, {name} published "{title}".',
            'The memoir "{title}" was written in {city}, where {name} had settled in {moved}.',
        ),
    ),
    questions=(
        (
            "Who taught {name}, and what was the trade?",
            "{name} of {place} was taught by {teacher} and became {a_work}.",
        ),
        (
            "What did {name} do in {city}?",
            '{name} moved to {city} in {moved} and published the book "{title}" there.',
        ),
        (
            "Where and when was {name} born?",
            "{name}, later {a_work} and the author of {title}, was born in {place} in {born}.",
        ),
    ),
    fields=(
        ("Name", "{name}"),
        ("Birthplace", "{place}"),
        ("Year of birth", "{born}"),
        ("Teacher", "{teacher}"),
        ("Profession", "{work}"),
        ("Book", "{title}"),
    ),
    summaries=(
        '{name}, {a_work} from {place}, studied under {teacher} and wrote "{title}".',
        'A pupil of {teacher}, {name} left {place} for {city} in {moved} and wrote "{title}".',
    ),
)


def _clinic_facts(draw: Draw) -> dict[str, str]:
    return {
        "patient": draw.person(),
        "age": str(draw.integer(18, 91)),
        "complaint": draw.one_of(_COMPLAINTS),
        "doctor": draw.surname(),
        "dose": str(draw.integer(2, 60) * 5),
        "medicine": draw.product().split()[0].lower(),
        "day": draw.day(),
        "file": draw.code(),
    }


_CLINIC_NOTE = DocumentKind(
    name="clinic note",
    facts=_clinic_facts,
    sentences=(
        (
            "Patient {patient}, aged {age}, file {file}, came in with {complaint}.",
            "{patient} (file {file}, {age} years old) was seen about {complaint}.",
        ),
        (
            "Dr {doctor} prescribed {dose} mg of {medicine} daily.",
            "The treatment, {dose} mg of {medicine} a day, was chosen by Dr {doctor}.",
        ),
        ("The next visit is on {day}.", "A check-up was booked for {day}."),
    ),
    questions=(
        (
            "What was {patient} prescribed, and by whom?",
            "Dr {doctor} prescribed {patient} {dose} mg of {medicine} daily for {complaint}.",
        ),
        (
            "When is {patient} due back, and why?",
            "{patient} returns to Dr {doctor} on {day} because of {complaint}.",
        ),
        (
            "Which file belongs to {patient}?",
            "File {file} belongs to {patient}, aged {age}, who takes {dose} mg of {medicine}.",
        ),
    ),
    fields=(
        ("Patient", "{patient}"),
        ("File", "{file}"),
        ("Complaint", "{complaint}"),
        ("Doctor", "{doctor}"),
        ("Medicine", "{medicine}, {dose} mg"),
        ("Next visit", "{day}"),
    ),
    summaries=(
        "Dr {doctor} treats {patient}, {age}, for {complaint} with {dose} mg of {medicine}.",
        "{patient} takes {dose} mg of {medicine} a day for {complaint} until a visit on {day}.",
    ),
)


def _match_facts(draw: Draw) -> dict[str, str]:
    goals = draw.integer(2, 6)
    return {
        "home": draw.place() + draw.one_of((" Rovers", " Athletic", " Town", " United")),
        "away": draw.place() + draw.one_of((" Rangers", " Wanderers", " Albion", " City")),
        "score": f"{goals}-{draw.integer(0, goals - 1)}",
        "scorer": draw.person(),
        "minute": str(draw.integer(46, 94)),
        "crowd": draw.number(310, 18900),
        "coach": draw.surname(),
        "day": draw.day(),
    }


_MATCH_REPORT = DocumentKind(
    name="match report",
    facts=_match_facts,
    sentences=(
        (
            "{home} beat {away} {score} on {day} before {crowd} spectators.",
            "On {day} a crowd of {crowd} saw {home} win {score} against {away}.",
        ),
        (
            "{scorer} scored the decisive goal in minute {minute}.",
            "The goal that mattered came from {scorer} in minute {minute}.",
        ),
        ("Coach {coach} called it deserved.", "Coach {coach} praised the defence."),
    ),
    questions=(
        (
            "Who decided the match between {home} and {away}?",
            "{scorer} scored in minute {minute}, and {home} won {score}.",
        ),
        (
            "How many people watched {home}, and what was the result?",
            "A crowd of {crowd} watched {home} beat {away} {score} on {day}.",
        ),
    ),
    fields=(
        ("Winner", "{home}"),
        ("Loser", "{away}"),
        ("Score", "{score}"),
        ("Scorer", "{scorer}"),
        ("Coach", "{coach}"),
        ("Spectators", "{crowd}"),
    ),
    summaries=(
        "{home} won {score} against {away} thanks to {scorer} in minute {minute}.",
        "A goal by {scorer} gave {home} a {score} win over {away} on {day}.",
    ),
)


def _personnel_facts(draw: Draw) -> dict[str, str]:
    return {
        "name": draw.person(),
        "number": draw.code(),
        "firm": draw.organisation(),
        "work": draw.one_of(words.PROFESSIONS),
        "place": draw.place(),
        "salary": f"{draw.integer(210, 980) * 100:,}",
        "chief": draw.person(),
        "hobbies": listed(draw.several(words.HOBBIES, 2)),
        "year": draw.year(1988, 2023),
    }


_PERSONNEL_FILE = DocumentKind(
    name="personnel file",
    facts=_personnel_facts,
    sentences=(
        (
            "{name}, staff number {number}, joined {firm} as {work} in {year}.",
            "{firm} hired {name} as {work} in {year} under staff number {number}.",
        ),
        (
            "The post in {place} pays {salary} pounds and reports to {chief}.",
            "Based in {place}, the post reports to {chief} at {salary} pounds a year.",
        ),
        ("Interests named at the interview: {hobbies}.", "Hobbies on file are {hobbies}."),
    ),
    questions=(
        (
            "What does {name} earn, and who is the superior?",
            "{name} earns {salary} pounds a year at {firm} and reports to {chief}.",
        ),
        (
            "What are the staff number and hobbies of {name}?",
            "{name} has staff number {number} and enjoys {hobbies}.",
        ),
    ),
    fields=(
        ("Employee", "{name}"),
        ("Staff number", "{number}"),
        ("Employer", "{firm}"),
        ("Role", "{work}"),
        ("Salary", "{salary} pounds"),
        ("Superior", "{chief}"),
    ),
    summaries=(
        "{name} joined {firm} in {place} in {year}, reports to {chief} and earns {salary} pounds.",
        "Under {chief}, {name} serves {firm} as {work} for {salary} pounds and likes {hobbies}.",
    ),
)

PEOPLE_KINDS = (_BIOGRAPHY, _CLINIC_NOTE, _MATCH_REPORT, _PERSONNEL_FILE)
