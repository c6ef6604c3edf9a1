"""What a training guarantees as rows of the results table, and read back from them."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum

from audits.membership.ceiling_rows import AUROC_UPPER
from audits.rows import Audit, ResultRow
from common.guarantee import Certificate, Guarantee

AUDIT = Audit.guarantee
NAME = "guarantee"
EPSILON = "epsilon"
NO_BOUND = "no bound"


class Channel(StrEnum):
    """What a student reads of its teacher; which bound there is for each is in docs/defences.md."""

    log_probabilities = "log-probabilities"
    text = "text"
    secret_text = "text of secret draws"


def guarantee_rows(guarantee: Guarantee | None, channel: Channel | None) -> list[ResultRow]:
    """Returns epsilon and mu of a run, or that nothing bounds what it gives away.

    Args:
        guarantee: Of the run; values are null where it does not hold.
        channel: What it reads of its teacher; None, it is no student.
    """
    rows = []
    if guarantee is not None:
        told = {EPSILON: guarantee.epsilon, "mu": guarantee.mu} if guarantee.holds else {}
        rows += [
            ResultRow(name=NAME, metric=metric, params=guarantee.values, value=told.get(metric))
            for metric in (EPSILON, "mu")
        ]
    if channel is not None and (guarantee is None or not guarantee.holds):
        params = {"certificate": str(Certificate.none), "channel": str(channel), "scope": NO_BOUND}
        rows.append(ResultRow(name=NAME, metric=AUROC_UPPER, params=params))
    return rows


def guarantee_of(rows: Sequence[Mapping[str, object]]) -> Guarantee | None:
    """Returns the guarantee that stands in a run's results; None where none does.

    Args:
        rows: Of one run and step, as tables hold them.
    """
    for row in rows:
        if row["audit"] == AUDIT and row["metric"] == EPSILON:
            return Guarantee.of(json.loads(str(row["params"])))
    return None
