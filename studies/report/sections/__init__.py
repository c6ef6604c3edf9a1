"""The page's sections in reading order, a file each: a function from the study to its `Section`.

A further section is a file here and a line of `SECTIONS`.
"""

from collections.abc import Callable

from studies.report.parts import Section
from studies.report.sections.attacks import attacks
from studies.report.sections.blocks import blocks
from studies.report.sections.disagreement import disagreement
from studies.report.sections.findings import findings
from studies.report.sections.inherited import inherited
from studies.report.sections.leaks import leaks
from studies.report.sections.memorization import memorization
from studies.report.sections.methods import methods
from studies.report.sections.objectives import objectives
from studies.report.sections.probes import probes
from studies.report.sections.published import published
from studies.report.sections.result import result
from studies.report.sections.risk_utility import risk_utility
from studies.report.sections.roc import roc
from studies.report.sections.tasks import tasks
from studies.report.sections.training import training
from studies.report.sections.utility import utility
from studies.report.sections.worst_records import worst_records
from studies.report.study_data import StudyData

__all__ = ["SECTIONS"]

SECTIONS: tuple[Callable[[StudyData], Section], ...] = (
    findings,
    result,
    attacks,
    leaks,
    roc,
    utility,
    risk_utility,
    inherited,
    memorization,
    worst_records,
    disagreement,
    blocks,
    probes,
    tasks,
    objectives,
    training,
    published,
    methods,
)
