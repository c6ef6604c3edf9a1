"""Zlib: the loss, set off against how compressible the text is for anybody.

Carlini et al., "Extracting Training Data from Large Language Models", USENIX Security 2021. The
text is the true response; published code for distilled models compresses the argmax text instead.
"""

import zlib

import torch
from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.measurements import Scored
from audits.membership.signals.argmax_text import CompressedArgmaxText
from audits.membership.view import AuditView


class Zlib(Attack):
    """Mean log-probability over the bytes of the compressed response, nats per token and byte."""

    name = "zlib"
    title = "Zlib"
    description = "Mean log-probability against how well the text compresses."
    access = Access.given_text
    threat_model = "sees log-probabilities of given text"

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of l_t over len(zlib(utf-8 of the response)), [B]."""
        sizes = [
            len(zlib.compress(view.scored_text(record).encode("utf-8"))) for record in view.records
        ]
        return view.statistics.mean_logp / torch.tensor(sizes, dtype=torch.float64)


class ReleasedZlib(Attack):
    """Mean log-probability over the bytes of the compressed argmax text, nats per byte.

    A departure from Carlini et al., as the published distillation experiment computes it, kept so
    that published figures can be compared like with like: what is compressed is not the record but
    the model's own best guess at it.
    """

    name = "as_released_zlib"
    title = "Zlib, as released"
    description = "Zlib as published code computes it, by the compressed argmax text."
    access = Access.distributions
    threat_model = "sees the whole next-token distribution on given text"
    requires = frozenset({Scored(), CompressedArgmaxText()})

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of l_t over the compressed size of the argmax text, [B]."""
        return view.statistics.mean_logp / view.signal(CompressedArgmaxText())[:, 0]
