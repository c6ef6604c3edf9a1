"""The built-in corpus of invented instruction records."""

from datamodules.synthetic.corpus import generate_record, generate_records

__all__ = ["generate_record", "generate_records"]
