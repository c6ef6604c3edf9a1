"""Response sources: who wrote the responses that a student trains on."""

from kdmodules.responses.buffered import BufferedResponses
from kdmodules.responses.dataset import DatasetResponses
from kdmodules.responses.mixed import MixedResponses
from kdmodules.responses.replay import AdaptiveReplay
from kdmodules.responses.rollouts import TeacherMixedRollouts
from kdmodules.responses.source import ResponseContext, ResponseSource
from kdmodules.responses.student import StudentResponses
from kdmodules.responses.teacher import TeacherResponses

__all__ = [
    "AdaptiveReplay",
    "BufferedResponses",
    "DatasetResponses",
    "MixedResponses",
    "ResponseContext",
    "ResponseSource",
    "StudentResponses",
    "TeacherMixedRollouts",
    "TeacherResponses",
]
