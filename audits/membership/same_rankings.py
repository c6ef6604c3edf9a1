"""Attacks that rank records as another one does, which no correction counts twice."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from audits.membership.attacks import Attack
from audits.membership.metrics import ScoredRecords

_ROUNDING = 1.0
"""Ranks by which a score that rounding made equal to its neighbour's may move."""


def repeated_rankings(
    attacks: Sequence[Attack], members: Sequence[ScoredRecords], nonmembers: Sequence[ScoredRecords]
) -> list[int]:
    """Returns the places of attacks whose ranking another of them has.

    They are one look by what they compute (`Attack.ranks_as`), never by how the scores fell out:
    a number of looks that depends on these would promise too much. The scores only confirm it, as
    a reference with other tokens, or one that met some of the records, makes two attacks of them.

    Args:
        attacks: The attacks.
        members: Scores of the members under each.
        nonmembers: Scores of the non-members under each.
    """
    places = {(one.name, str(one.params)): place for place, one in enumerate(attacks)}
    found = []
    for place, attack in enumerate(attacks):
        like = attack.ranks_as
        other = None if like is None else places.get((like.name, str(like.params)))
        if other is not None and all(
            one[place].record_ids == one[other].record_ids for one in (members, nonmembers)
        ):
            own, theirs = (
                rankdata(np.concatenate([members[at].scores, nonmembers[at].scores]))
                for at in (place, other)
            )
            if np.abs(own - theirs).max(initial=0.0) <= _ROUNDING:
                found.append(place)
    return found
