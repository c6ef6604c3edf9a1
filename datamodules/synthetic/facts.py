"""Facts of a text: drawn as a data file says, then worded."""

import re
from collections.abc import Mapping, Sequence
from functools import cache

from datamodules.sensitive import SensitiveSpan, holds
from datamodules.synthetic.draw import Draw, capitalised, with_article
from datamodules.synthetic.texts import texts

FactRule = str | Sequence[str] | Mapping[str, Mapping[str, str]]
"""How a fact is drawn; the forms are told at the top of documents.yaml."""


_PERSONAL = {
    "name": re.compile("<person>"),
    "address": re.compile("<number [^<>]*> {street}"),
    "number": re.compile("<(number|code)[^<>]*>"),
}
"""How a fact is drawn that is somebody's own, by the type of its span."""
_SHORTEST = 3
"""Characters of a personal fact: shorter numbers stand anywhere."""


class Facts(dict[str, str]):
    """Facts by name, as a wording asks for them, and those among them that are somebody's own.

    >>> "{Thing}: {a thing}".format_map(Facts(thing="owl"))
    'Owl: an owl'
    """

    def __init__(self, **facts: str) -> None:
        super().__init__(facts)
        self.personal: list[SensitiveSpan] = []

    def note(self, name: str, rule: str) -> None:
        """Keeps a fact as personal where its rule draws one."""
        text = self[name]
        kinds = (kind for kind, drawn in _PERSONAL.items() if drawn.fullmatch(rule))
        if len(text) >= _SHORTEST and (kind := next(kinds, None)) is not None:
            self.personal.append(SensitiveSpan(text, kind))

    def said(self, response: str) -> tuple[SensitiveSpan, ...]:
        """The personal facts that a response tells, each once."""
        told = {span.text: span for span in self.personal if holds(response, span.text)}
        return tuple(told.values())

    def __missing__(self, slot: str) -> str:
        """Words a fact after its article, or with a capital."""
        if slot.startswith("a "):
            return with_article(self[slot[2:]])
        if slot[:1].isupper():
            return capitalised(self[slot.lower()])
        raise KeyError(slot)


@cache
def _pieces(text: str) -> list[str]:
    """Splits at the draws: texts at even places, the draws between them at odd ones."""
    return re.split(r"<([^<>]*)>", text)


def _drawn(draw: Draw, command: str) -> str:
    name, *arguments = command.split()
    if name.split("|")[0] in texts("words"):
        return draw.word(name)
    method = getattr(draw, name)
    return method(*(int(a) if a.isdigit() else a for a in arguments))


def draw_facts(draw: Draw, rules: Mapping[str, FactRule]) -> Facts:
    """Draws facts from top to bottom.

    Args:
        draw: where the choices come from.
        rules: how each is drawn, by name; a rule may use the facts above it.
    """
    facts = Facts()
    for name, rule in rules.items():
        if isinstance(rule, Mapping):
            ((decider, cases),) = rule.items()
            rule = cases[facts[decider]]
        elif not isinstance(rule, str):
            rule = draw.one_of(rule)
        facts[name] = "".join(
            _drawn(draw, piece.format_map(facts)) if number % 2 else piece.format_map(facts)
            for number, piece in enumerate(_pieces(rule))
        )
        facts.note(name, rule)
    return facts
