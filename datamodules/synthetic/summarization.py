"""Summaries of small documents."""

from datamodules.synthetic.document_kinds import draw_document
from datamodules.synthetic.draw import Draw, capitalised

_FRAMES = (
    "Summarise the {name} in one sentence.",
    "Give me a one-sentence summary of this {name}.",
    "What is the main point of the following {name}?",
    "Shorten this {name} to a single sentence that keeps the names.",
    "Write a brief summary of the {name} below for somebody in a hurry.",
    "Boil the {name} down to its essentials.",
)


def summarization(draw: Draw) -> tuple[str, str, str]:
    """Writes a request for a summary.

    Returns:
        instruction, context, response.
    """
    document = draw_document(draw)
    instruction = draw.one_of(_FRAMES).format(name=document.name)
    return instruction, document.passage, capitalised(draw.one_of(document.summaries))
