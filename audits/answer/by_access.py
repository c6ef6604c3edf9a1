"""What attackers of each kind of access find, each by one attack that no result has chosen.

The best of several attacks looks better than it is, so the attack of each kind is named here; of an
attack that ran with several options the first listed is taken.
"""

from collections.abc import Sequence

from audits.answer.judging import Judged, params_of
from audits.membership.attacks import LiRA, describe
from audits.membership.attacks.base import Access
from audits.membership.epsilon_rows import READS_THE_COINS
from audits.scoring.references import BASE

_ORDER = (
    *("label_only", "samia", "top_k_loss"),
    *("reference", "loss", "informia", "min_k_plus_plus"),
    *("mope", "grad_norm"),
    *("rmia", "lira"),
)
"""Those that come first among attacks of one kind of access; the others in the order listed."""

_PUBLISHED_CODE = "as_released_"
_MANY_SHADOWS = 16
"""References from which LiRA's variances are a record's own, and it comes before RMIA."""


def by_access(attacks: Sequence[Judged]) -> list[tuple[str, Judged]]:
    """Returns what the attacker sees and the attack that tells of it, the least access first.

    An attack whose reference tells of two models is left out, and so is what published code
    computes in an attack's place.

    Args:
        attacks: Those of one model on one population of members, in the order listed.
    """
    chosen: dict[tuple[int, bool, str], Judged] = {}
    for judged in sorted(attacks, key=_place):
        kind = describe(str(judged.row["name"]))
        if (
            kind is None
            or kind.name.startswith(_PUBLISHED_CODE)
            or READS_THE_COINS in judged.metrics
        ):
            continue
        place = (list(Access).index(kind.access), kind.shadows, _seen(judged, kind.access))
        chosen.setdefault(place, judged)
    return [
        (f"{seen}, and shadow models" if shadows else seen, judged)
        for (_, shadows, seen), judged in sorted(chosen.items(), key=lambda one: one[0][:2])
    ]


def _seen(judged: Judged, access: Access) -> str:
    """Returns what the attacker sees in words; of the likeliest tokens, how many."""
    if access == Access.top_k:
        return access.value.replace("-k", f"-{params_of(judged.row)['k']}")
    return access.value


def _place(judged: Judged) -> int:
    name, params = str(judged.row["name"]), params_of(judged.row)
    if name == LiRA.name and str(params.get("references")).count(",") + 1 >= _MANY_SHADOWS:
        return -1
    if name == "reference" and params.get("reference") != BASE:
        return len(_ORDER)
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)
