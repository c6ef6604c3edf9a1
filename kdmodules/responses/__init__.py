"""Response sources: who wrote the responses that a student trains on."""

from kdmodules.responses.buffered import BufferedResponses as BufferedResponses
from kdmodules.responses.cp_delta import CpDeltaResponses as CpDeltaResponses
from kdmodules.responses.dataset import DatasetResponses as DatasetResponses
from kdmodules.responses.guarded import require_text_alone as require_text_alone
from kdmodules.responses.mixed import MixedResponses as MixedResponses
from kdmodules.responses.private_ensemble import (
    PrivateEnsembleResponses as PrivateEnsembleResponses,
)
from kdmodules.responses.replay import AdaptiveReplay as AdaptiveReplay
from kdmodules.responses.rollouts import TeacherMixedRollouts as TeacherMixedRollouts
from kdmodules.responses.source import ResponseContext as ResponseContext
from kdmodules.responses.source import ResponseSource as ResponseSource
from kdmodules.responses.student import StudentResponses as StudentResponses
from kdmodules.responses.teacher import TeacherResponses as TeacherResponses
