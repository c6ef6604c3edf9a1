"""What trains: networks, supervised stages, students, objectives and response sources."""

from typing import TYPE_CHECKING

from common.lazy_names import lazy_names

if TYPE_CHECKING:
    from kdmodules.external import ExternalModule as ExternalModule
    from kdmodules.models.network import Network as Network
    from kdmodules.optimization import OptimizerSettings as OptimizerSettings
    from kdmodules.student import StudentModule as StudentModule
    from kdmodules.teacher import SupervisedModule as SupervisedModule
    from kdmodules.teacher import TeacherModule as TeacherModule

_MODULES = {
    "ExternalModule": "kdmodules.external",
    "Network": "kdmodules.models.network",
    "OptimizerSettings": "kdmodules.optimization",
    "StudentModule": "kdmodules.student",
    "SupervisedModule": "kdmodules.teacher",
    "TeacherModule": "kdmodules.teacher",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
