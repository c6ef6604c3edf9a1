"""How far a model's scores in the precision of its weights lie from those in float32."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audits.context import AuditContext
from audits.rows import Audit, ResultRow, bounds
from audits.scoring.model_access import ModelAccess
from audits.scoring.scoring_pass import score_records
from audits.statistics.means import ratio_interval
from datamodules.records import InstructionRecord
from kdmodules.models.causal_lm import CausalLM

AUDIT = Audit.precision
_RECORDS = 64


def drift_row(context: AuditContext, exact: CausalLM, dtype: str) -> ResultRow:
    """Scores up to 64 records, half of them members, by the same model in two precisions.

    Args:
        context: The model, in evaluation mode, and its records.
        exact: The same model with weights in float32.
        dtype: Type of the audited model's weights.

    Returns:
        The mean absolute change of a record's loss in nats per token, with a 95% interval over
        records; ``params`` hold the largest change and how far losses differ between records (their
        standard deviation), which is what a change has to be small against.
    """
    members = context.data.member_population
    sides = (members, context.data.opposed_to(members))
    records = [one for side in sides for one in context.answered(side)[: _RECORDS // 2]]
    whole = _losses(replace(context.model, lm=exact), context, records)
    change = np.abs(_losses(context.model, context, records) - whole)
    return ResultRow(
        audit=AUDIT,
        population=members,
        name=dtype,
        metric="loss_drift_nats",
        params={
            "records": len(records),
            "largest_nats": round(float(change.max()), 6),
            "spread_nats": round(float(whole.std()), 6),
        },
        **bounds(ratio_interval(change, np.ones_like(change), context.data.clusters(records))),
    )


def drift_note(row: ResultRow) -> str:
    """Returns what a row says, in one sentence."""
    largest, spread = (float(str(row.params[name])) for name in ("largest_nats", "spread_nats"))
    return (
        f"{row.name} weights move a record's loss by {row.value:.2g} nats a token on average, by "
        f"{largest:.2g} at most, from where float32 weights have it; the losses of these "
        f"{row.params['records']} records differ by {spread:.2g} (standard deviation)"
    )


def _losses(
    access: ModelAccess, context: AuditContext, records: Sequence[InstructionRecord]
) -> NDArray[np.float64]:
    """Returns each record's loss in nats per scored token, [B]."""
    encoded = access.encoder.encode_all(records)
    found = score_records(access, encoded, "precision", folder=context.folder).read()
    parts = np.split(found.logp.double().numpy(), found.offsets[1:-1].numpy())
    return np.array([-part.mean() for part in parts])
