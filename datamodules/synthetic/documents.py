"""Small invented documents, and what can be asked about them."""

from collections.abc import Callable
from dataclasses import dataclass

from datamodules.synthetic.draw import Draw


@dataclass(frozen=True, slots=True)
class Document:
    """A passage of two or three sentences with its questions, fields and summaries.

    Attributes:
        name: what one would call it, such as "delivery note".
        passage: the text.
        questions: pairs of a question and its answer in a full sentence.
        fields: pairs of a label and the value that stands in the passage.
        summaries: sentences that keep the main facts.
    """

    name: str
    passage: str
    questions: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, str], ...]
    summaries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """A kind of document: how its facts are drawn and how they are worded.

    Every wording is a format string over the names of the facts.

    Attributes:
        name: what one would call such a document.
        facts: draws the facts, by name.
        sentences: for each sentence of the passage its alternative wordings.
        questions: pairs of a question and its answer.
        fields: pairs of a label and a value.
        summaries: alternative summaries.
    """

    name: str
    facts: Callable[[Draw], dict[str, str]]
    sentences: tuple[tuple[str, ...], ...]
    questions: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, str], ...]
    summaries: tuple[str, ...]

    def write(self, draw: Draw) -> Document:
        """Draws the facts of one document and words it."""
        facts = self.facts(draw)
        return Document(
            name=self.name,
            passage=draw.text(facts, *self.sentences),
            questions=tuple((q.format_map(facts), a.format_map(facts)) for q, a in self.questions),
            fields=tuple((label, value.format_map(facts)) for label, value in self.fields),
            summaries=tuple(summary.format_map(facts) for summary in self.summaries),
        )
