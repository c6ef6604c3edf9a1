"""Does a model leak at all? One test over all attacks, which pays for their number."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from audits.membership.attacks import Attack
from audits.membership.common_records import on_common_records
from audits.membership.metrics import ScoredRecords
from audits.rows import ResultRow
from audits.statistics.multiplicity import max_t

ANY_ATTACK, MAX_T = "any_attack", "max_t"
"""Name and metric of the row."""
N_PERMUTATIONS = 999
# Fewer clusters on a side leave too few labellings to say anything at 5%.
_FEWEST_CLUSTERS = 4


def any_leak_rows(
    attacks: Sequence[Attack],
    members: Sequence[ScoredRecords],
    nonmembers: Sequence[ScoredRecords],
    shifted: bool | None,
    unit: Mapping[str, object] | None = None,
) -> list[ResultRow]:
    """Returns the max-T test of "no attack tells members from non-members", of two attacks or more.

    The labels of whole near-duplicate clusters are exchanged, under all attacks alike, and the
    largest standardised AUROC is set against those of the others (Westfall and Young 1993).
    So the smallest p-value of many attacks is not taken for that of one. `value` is the largest
    standardised AUROC, in standard deviations over labellings; the attack that reaches it is named
    in the parameters. Over the records that every attack has scored.

    Args:
        attacks: K attacks, none of which reads the coins from a reference that met one side: it
            would find what the reference leaks.
        members: Scores of the members under each.
        nonmembers: Scores of the non-members under each.
        shifted: Whether the texts alone tell the sides apart.
        unit: Parameters that say what the scores are of, where they are not of records.
    """
    if len(attacks) < 2:
        return []
    (x, ours), (y, theirs) = (on_common_records(side) for side in (members, nonmembers))
    row = partial(
        ResultRow,
        population=members[0].population,
        name=ANY_ATTACK,
        metric=MAX_T,
        n_members=x.shape[1],
        n_nonmembers=y.shape[1],
        shifted=shifted,
    )
    params = {"attacks": len(attacks), "permutations": N_PERMUTATIONS, **(unit or {})}
    if min(np.unique(ours).size, np.unique(theirs).size) < _FEWEST_CLUSTERS:
        return [row(params=params)]
    found = max_t(x, y, N_PERMUTATIONS, member_clusters=ours, nonmember_clusters=theirs)
    largest = int(np.argmax(found.statistics))
    return [
        row(
            params=params | {"largest": attacks[largest].name},
            value=float(found.statistics[largest]),
            p_value=float(found.p_values[largest]),
        )
    ]
