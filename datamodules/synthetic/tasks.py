"""The seven tasks: what is drawn from their texts, in which order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from datamodules.sensitive import SensitiveSpan
from datamodules.synthetic.draw import Draw, capitalised, listed
from datamodules.synthetic.facts import Facts, draw_facts
from datamodules.synthetic.texts import texts, words


class Example(NamedTuple):
    """A worked example of a task.

    Attributes:
        instruction: what is asked.
        context: the passage that it is about; empty where there is none.
        response: the answer.
        sensitive: names, numbers and addresses in it.
    """

    instruction: str
    context: str
    response: str
    sensitive: tuple[SensitiveSpan, ...] = ()


class Document(NamedTuple):
    """A small invented document.

    Attributes:
        name: what one would call it, such as "delivery note".
        facts: what it says.
        passage: two or three sentences with all facts.
        texts: its kind's entry in documents.yaml.
    """

    name: str
    facts: Facts
    passage: str
    texts: Mapping[str, Any]


def draw_document(draw: Draw) -> Document:
    """Writes a document of a kind that is drawn first, all kinds equally likely."""
    kinds = texts("documents")
    name = draw.one_of(list(kinds))
    facts = draw_facts(draw, kinds[name]["facts"])
    return Document(name, facts, draw.text(facts, *kinds[name]["sentences"]), kinds[name])


def _closed_qa(draw: Draw) -> Example:
    document = draw_document(draw)
    pair = draw.one_of(document.texts["questions"])
    question, answer = (pair[part].format_map(document.facts) for part in ("question", "answer"))
    wording = draw.one_of(texts("document_tasks")["closed_qa"]["instruction"])
    instruction = wording.format(question=question, name=document.name)
    return Example(instruction, document.passage, answer, document.facts.said(answer))


def _summarization(draw: Draw) -> Example:
    document = draw_document(draw)
    wording = draw.one_of(texts("document_tasks")["summarization"]["instruction"])
    summary = draw.one_of(document.texts["summaries"]).format_map(document.facts)
    said = document.facts.said(summary)
    return Example(wording.format(name=document.name), document.passage, capitalised(summary), said)


def _information_extraction(draw: Draw) -> Example:
    """Asks for three or four fields of a passage, as a list, as pairs, or as one line."""
    document = draw_document(draw)
    task = texts("document_tasks")["information_extraction"]
    fields = document.texts["fields"]
    labels = draw.several(list(fields), draw.integer(3, 4))
    form = draw.one_of(list(task["forms"]))
    line, separator = task["forms"][form]
    instruction = draw.one_of(task["instruction"]).format(
        labels=listed([f"the {label[0].lower()}{label[1:]}" for label in labels]),
        name=document.name,
        form=form,
    )
    values = {label: fields[label].format_map(document.facts) for label in labels}
    response = separator.join(line.format(label=label, value=values[label]) for label in labels)
    return Example(instruction, document.passage, response, document.facts.said(response))


def _written(draw: Draw, subject: Mapping[str, Any]) -> Example:
    facts = draw_facts(draw, subject["facts"])
    instruction = draw.text(facts, subject["instruction"])
    context = draw.text(facts, *subject.get("context", ()))
    response = capitalised(draw.text(facts, *subject["response"]))
    return Example(instruction, context, response, facts.said(response))


def _open_qa(draw: Draw) -> Example:
    return _written(draw, draw.one_of(list(texts("open_qa").values())))


def _generation(draw: Draw) -> Example:
    return _written(draw, draw.one_of(list(texts("generation").values())))


def _classification(draw: Draw) -> Example:
    subject = draw.one_of(list(texts("classification").values()))
    return _sorting(draw, subject) if "groups" in subject else _written(draw, subject)


def _sorting(draw: Draw, subject: Mapping[str, Any]) -> Example:
    """Asks to sort words into two groups, answered word by word or group by group."""
    first, second = draw.several(subject["groups"], 2)
    count = draw.integer(2, 3)
    shared = set(words(first)) & set(words(second))
    members = {
        name: draw.several([word for word in words(name) if word not in shared], count)
        for name in (first, second)
    }
    mixed = draw.several(members[first] + members[second], 2 * count)
    facts = Facts(first=first, second=second, list=listed(mixed), words=", ".join(mixed))
    instruction = draw.text(facts, subject["instruction"])
    if draw.chance(0.5):
        lines = [(word, first if word in members[first] else second) for word in mixed]
    else:
        lines = [(name, ", ".join(members[name])) for name in (first, second)]
    return Example(instruction, "", "\n".join(f"{capitalised(a)}: {b}" for a, b in lines))


def _brainstorming(draw: Draw) -> Example:
    """Asks for three or four ideas, answered by bullets or numbers."""
    subject = draw.one_of(list(texts("brainstorming").values()))
    instruction = draw.text(draw_facts(draw, subject["facts"]), subject["instruction"])
    counts = {"three": 3, "four": 4}
    count = draw.one_of(list(counts))
    ideas = [_idea(draw, subject["ideas"], subject["idea_facts"]) for _ in range(counts[count])]
    bullets = draw.chance(0.5)
    lines = (f"- {idea}" if bullets else f"{n}. {idea}" for n, idea in enumerate(ideas, start=1))
    return Example(instruction.format(count=count), "", "\n".join(lines))


def _idea(draw: Draw, wordings: Sequence[str], rules: Mapping[str, str]) -> str:
    wording = draw.one_of(wordings)
    return capitalised(wording.format_map(draw_facts(draw, rules)))


WRITERS: Mapping[str, Callable[[Draw], Example]] = {
    "brainstorming": _brainstorming,
    "classification": _classification,
    "closed_qa": _closed_qa,
    "generation": _generation,
    "information_extraction": _information_extraction,
    "open_qa": _open_qa,
    "summarization": _summarization,
}
"""What writes an example of a task."""
