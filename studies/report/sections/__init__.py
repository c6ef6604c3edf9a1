"""The page's sections in reading order, a file each: a function from the study to its `Section`.

A further section is a file here, with a function of its name, and that name in a group.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from studies.report.parts import Section
from studies.report.study_data import StudyData

Makers = Sequence[Callable[[StudyData], Section]]
_NAMES = {
    "How sure is this?": "sure",
    "Risk and utility": "utility defences risk_utility objectives",
    "Where the risk is": "tasks exposed_records worst_records memorization spans disagreement "
    "blocks probes",
    "During training": "training",
    "By attacker": "by_access leaks attacks roc inherited sets",
    "The paper’s five findings": "findings published",
    "Methods, versions, commands": "methods",
}

GROUPS: Mapping[str, Makers] = {
    title: [getattr(import_module(f"{__name__}.{name}"), name) for name in names.split()]
    for title, names in _NAMES.items()
}
"""Sections by the question that they answer; each opens on a click."""
