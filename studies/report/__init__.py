"""The report of a study: one self-contained page, and its tables as CSV and on the terminal."""

from studies.report.page import print_main_table, write_report

__all__ = ["print_main_table", "write_report"]
