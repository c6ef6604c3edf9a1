"""What a model is in a study: the role under which its rows stand in every table."""

from enum import StrEnum, auto


class Role(StrEnum):
    """What a model is in a study.

    Members are named as YAML and tables write them, so that ``role: teacher`` names one.
    """

    base = auto()
    teacher = auto()
    counterfactual_teacher = auto()
    init = auto()
    control = auto()
    counterfactual = auto()
    student = auto()
    reference = auto()
    external = auto()


COUNTERFACTUAL_ROLES = (Role.counterfactual_teacher, Role.counterfactual)
"""Models whose private records are the held-out ones of the others."""

TAUGHT_ROLES = (Role.student, Role.counterfactual, Role.control)
"""Models of the students' size that trained on public records."""
