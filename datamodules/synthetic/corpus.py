"""The built-in corpus: seeded instruction records in all seven tasks, without network."""

from collections.abc import Iterator
from itertools import count

from datamodules.records import TASKS, InstructionRecord, content_id
from datamodules.synthetic.draw import Draw
from datamodules.synthetic.tasks import WRITERS, draw_document

BUILTIN = "builtin"
"""What stands for the built-in corpus where the source of records or text is named."""


def generate_record(index: int, seed: int) -> InstructionRecord:
    """Writes record `index` of the corpus with this seed.

    Tasks take turns by index, so that any run of seven neighbours holds each task once. Names,
    numbers and dates are invented and differ from record to record: who has not seen a record
    cannot know its response. Names, numbers and addresses in a response are its sensitive spans.

    Args:
        index: position in the corpus, from 0.
        seed: which corpus.

    Returns:
        The record; a function of (seed, index) alone.

    Raises:
        ValueError: if the index is negative.
    """
    if index < 0:
        raise ValueError(f"the index of a record must not be negative, got {index}")
    task = TASKS[index % len(TASKS)]
    instruction, context, response, said = WRITERS[task](Draw(seed, "builtin", index))
    return InstructionRecord(
        id=content_id(instruction, context, response),
        instruction=instruction,
        context=context,
        response=response,
        task=task,
        origin=f"builtin:{index}",
        sensitive=said,
    )


def generate_records(n_records: int, seed: int) -> list[InstructionRecord]:
    """Writes the first `n_records` records of the built-in corpus.

    >>> generate_records(2, seed=0) == generate_records(5, seed=0)[:2]
    True

    Args:
        n_records: how many; a larger number appends and changes none.
        seed: which corpus.

    Returns:
        Records with balanced tasks; the id is the content hash, the origin "builtin:<index>".
    """
    return [generate_record(index, seed) for index in range(n_records)]


def generate_documents(seed: int) -> Iterator[str]:
    """Writes plain text without end: passages like those of the records, each about other facts.

    Args:
        seed: which text.

    Yields:
        One passage after another; none is drawn for a record, whatever the record's seed.
    """
    for index in count():
        yield draw_document(Draw(seed, "builtin plain text", index)).passage
