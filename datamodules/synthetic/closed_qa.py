"""Closed questions: the answer stands in the passage."""

from datamodules.synthetic.document_kinds import draw_document
from datamodules.synthetic.draw import Draw

_FRAMES = (
    "{question}",
    "{question}",
    "Using the {name} below, answer this: {question}",
    "Read the {name} and tell me: {question}",
    "{question} Answer in one sentence from the text.",
)


def closed_qa(draw: Draw) -> tuple[str, str, str]:
    """Writes a question on a passage.

    Returns:
        instruction, context, response.
    """
    document = draw_document(draw)
    question, answer = document.questions[draw.integer(0, len(document.questions) - 1)]
    instruction = draw.one_of(_FRAMES).format(question=question, name=document.name)
    return instruction, document.passage, answer
