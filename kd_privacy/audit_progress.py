"""What an audit says before it runs: of a model, and how long a pass over its records takes."""

from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter

from audits.context import AuditContext
from audits.scoring.scoring_pass import score_records
from kd_privacy.audited_model import AuditedModel, dtype_of
from kdmodules.models.causal_lm import model_device

_TIMED_RECORDS = 8


def model_line(audited: AuditedModel) -> str:
    """Returns what a model is, and how large."""
    lm = audited.context.model.lm
    millions = sum(one.numel() for one in lm.model.parameters()) / 1e6
    return f"{audited.source} ({lm.model.config.model_type}, {millions:.3g} M parameters)"


def device_line(audited: AuditedModel) -> str:
    """Returns where a model is, and the type of its weights."""
    return f"{model_device(audited.context.model.lm)}, {dtype_of(audited.context.model.lm)}"


def pass_seconds(audited: AuditedModel) -> float:
    """Returns about how long one forward pass over all audited records takes."""
    return audited.load.tokens * _seconds_per_token(audited.context)


def _seconds_per_token(context: AuditContext) -> float:
    """Times a small batch, after one record that warms up."""
    records = context.answered("held_out")[:_TIMED_RECORDS]
    encoded = context.model.encoder.encode_all(records)
    quiet = replace(context.model, progress=lambda title, total: nullcontext(lambda: None))
    score_records(quiet, encoded[:1], "warming up")
    start = perf_counter()
    score_records(quiet, encoded, "timing")
    return (perf_counter() - start) / sum(len(one) for one in encoded)
