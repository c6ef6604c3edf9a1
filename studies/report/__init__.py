"""The report of a study: one self-contained page, and its tables as CSV and on the terminal."""

from studies.report.page import write_report

__all__ = ["write_report"]
