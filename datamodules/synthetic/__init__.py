"""The built-in corpus of invented instruction records and plain text."""

from datamodules.synthetic.corpus import BUILTIN as BUILTIN
from datamodules.synthetic.corpus import generate_documents as generate_documents
from datamodules.synthetic.corpus import generate_record as generate_record
from datamodules.synthetic.corpus import generate_records as generate_records
