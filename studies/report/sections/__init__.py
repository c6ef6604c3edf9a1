"""The page's sections in reading order, a file each: a function from the study to its `Section`.

A further section is a file here, with a function of its name, and that name in `SECTIONS`.
"""

from collections.abc import Callable
from importlib import import_module

from studies.report.parts import Section
from studies.report.study_data import StudyData

__all__ = ["SECTIONS"]

_ORDER = """
findings result attacks leaks roc utility risk_utility inherited memorization worst_records
disagreement blocks probes tasks objectives training published methods
""".split()

SECTIONS: tuple[Callable[[StudyData], Section], ...] = tuple(
    getattr(import_module(f"{__name__}.{name}"), name) for name in _ORDER
)
