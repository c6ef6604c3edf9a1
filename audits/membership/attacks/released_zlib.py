"""The zlib attack as the published distillation experiment computes it: on the argmax text.

A departure from Carlini et al. (USENIX Security 2021), kept so that published figures can be
compared like with like: what is compressed is not the record but the model's own best guess at it.
"""

from torch import Tensor

from audits.membership.attacks.base import Attack
from audits.membership.measurements import Measurement, Scored
from audits.membership.signals.argmax_text import CompressedArgmaxText
from audits.membership.view import AuditView
from audits.scoring.segments import segment_mean


class ReleasedZlib(Attack):
    """Mean log-probability over the bytes of the compressed argmax text, nats per byte."""

    name = "as_released_zlib"
    title = "Zlib, as released"
    description = "Zlib as published code computes it, by the compressed argmax text."
    threat_model = "sees the whole next-token distribution on given text"

    @property
    def requires(self) -> frozenset[Measurement]:
        """The records' own text, and the argmax text's size."""
        return frozenset({Scored(), CompressedArgmaxText()})

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of l_t over the compressed size of the argmax text, [B]."""
        mean_logp = segment_mean(view.statistics.logp, view.statistics.offsets)
        return mean_logp / view.signal(CompressedArgmaxText())[:, 0]
