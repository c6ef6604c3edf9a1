"""What trains: networks, supervised stages, students, objectives and response sources."""

from kdmodules.external import ExternalModule
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.student import StudentModule
from kdmodules.teacher import SupervisedModule, TeacherModule

__all__ = [
    "ExternalModule",
    "Network",
    "OptimizerSettings",
    "StudentModule",
    "SupervisedModule",
    "TeacherModule",
]
