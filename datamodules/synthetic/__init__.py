"""The built-in corpus of invented instruction records and plain text."""

from datamodules.synthetic.corpus import (
    BUILTIN,
    generate_documents,
    generate_record,
    generate_records,
)

__all__ = ["BUILTIN", "generate_documents", "generate_record", "generate_records"]
