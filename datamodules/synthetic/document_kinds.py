"""The list of all kinds of documents, and a draw from it."""

from datamodules.synthetic.documents import Document
from datamodules.synthetic.documents_business import BUSINESS_KINDS
from datamodules.synthetic.documents_people import PEOPLE_KINDS
from datamodules.synthetic.documents_places import PLACE_KINDS
from datamodules.synthetic.draw import Draw

DOCUMENT_KINDS = (*PEOPLE_KINDS, *BUSINESS_KINDS, *PLACE_KINDS)


def draw_document(draw: Draw) -> Document:
    """Writes a document of a kind that is drawn first, all kinds equally likely."""
    return DOCUMENT_KINDS[draw.integer(0, len(DOCUMENT_KINDS) - 1)].write(draw)
