"""Whether a model knows its members' answers better under another template than the one given."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from audits.context import AuditContext
from audits.rows import Audit, ResultRow, bounds
from audits.scoring.scoring_pass import score_records
from audits.statistics.means import ratio_interval
from common.errors import UserError
from datamodules.encoding import RecordEncoder
from datamodules.records import InstructionRecord
from datamodules.templates import known_templates, template_name

AUDIT = Audit.template
METRIC = "nats_saved_per_byte"
_RECORDS = 64
_LEVEL = 0.99
_CLEARLY = 0.02
"""Share of the loss by which another template's must be lower, interval and all."""


def template_rows(context: AuditContext, members: str) -> list[ResultRow]:
    """Scores some members under every other template that fits them.

    What is compared is the loss of an answer's words, without its end token, so that both templates
    are asked about the same text.

    Args:
        context: The model, in evaluation mode, and its records.
        members: The population of the members.

    Returns:
        A row for each other template: by how many nats a byte of an answer is likelier under it,
        with a 99% interval over records, paired; ``params`` hold the loss under the given template.
    """
    records = context.answered(members)[:_RECORDS]
    encoder = context.model.encoder
    sizes = np.array([len(record.response.encode("utf-8")) for record in records], dtype=float)
    rows: list[ResultRow] = []
    losses: NDArray[np.float64] | None = None
    for name, template in known_templates(records, encoder.tokenizer).items():
        if template == encoder.template:
            continue
        try:
            other = encoder.with_template(template)
            found = _losses(context, records, other)
        except UserError:  # some record does not fit this template
            continue
        losses = _losses(context, records, encoder) if losses is None else losses
        saved = ratio_interval(losses - found, sizes, context.data.clusters(records), _LEVEL)
        params = {
            "records": len(records),
            "template": template_name(encoder.template),
            "nats_per_byte": round(float(losses.sum() / sizes.sum()), 6),
        }
        rows.append(
            ResultRow(
                audit=AUDIT,
                population=members,
                name=name,
                metric=METRIC,
                params=params,
                n_members=len(records),
                **bounds(saved),
            )
        )
    return rows


def template_warning(rows: Iterable[Mapping[str, object]]) -> str | None:
    """Returns a warning of the template under which a model knows its members clearly better.

    Args:
        rows: Rows of a results table; ``params`` a mapping.
    """
    better = {}
    for row in rows:
        params = row["params"]
        if row["metric"] != METRIC or row["lower"] is None or not isinstance(params, Mapping):
            continue
        own = float(params["nats_per_byte"])
        if float(str(row["lower"])) > _CLEARLY * own:
            better[str(row["name"])] = (float(str(row["value"])), own, params["template"])
    if not better:
        return None
    name, (saved, own, given) = max(better.items(), key=lambda one: one[1][0])
    return (
        f"under the template {name} the members' answers cost the model {own - saved:.3f} nats a "
        f"byte, under {given} {own:.3f}: the wrong template hides leakage, so ask with which one "
        f"it was trained, or give the template {name}"
    )


def _losses(
    context: AuditContext, records: Sequence[InstructionRecord], encoder: RecordEncoder
) -> NDArray[np.float64]:
    """Returns the loss of each record's last turn in nats, [B], without its end token."""
    encoded = encoder.encode_last(records)
    found = score_records(context.model, encoded, "template check", folder=context.folder).read()
    parts = np.split(found.logp.double().numpy(), found.offsets[1:-1].numpy())
    words = [len(one.words) for one in encoded]
    return np.array([-part[:n].sum() for part, n in zip(parts, words, strict=True)])
