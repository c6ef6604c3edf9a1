"""What attackers of each kind of access find, each by one attack that no result has chosen.

The best of several attacks looks better than it is, so the attack of each kind is named here; what
is not named comes by its id and its options, as text.
"""

from collections.abc import Sequence
from operator import itemgetter

from audits.answer.judging import Judged, params_of
from audits.membership.attacks import LiRA, Reference, describe
from audits.membership.attacks.base import Access
from audits.membership.epsilon_rows import READS_THE_COINS
from audits.scoring.references import BASE

_ORDER = (
    *("label_only", "samia", "top_k_loss"),
    *("reference", "loss", "informia", "min_k_plus_plus"),
    *("mope", "grad_norm"),
    *("rmia", "lira"),
)
"""Those that come first among attacks of one kind of access."""

_PUBLISHED_CODE = "as_released_"
_SAME_RANKING = 1.0 - 1e-9
_MANY_SHADOWS = 16
"""References from which LiRA's variances are a record's own, and it comes before RMIA."""


def by_access(attacks: Sequence[Judged]) -> list[tuple[str, Judged]]:
    """Returns what the attacker sees and the attack that tells of it, the least access first.

    An attack whose reference tells of two models is left out, and so is what published code
    computes in an attack's place, and RMIA where it is the reference attack by another name.

    Args:
        attacks: Those of one model on one population of members.
    """
    chosen: dict[tuple[int, bool, int], Judged] = {}
    for judged in sorted(attacks, key=_place):
        kind = describe(str(judged.row["name"]))
        if (
            kind is None
            or kind.name.startswith(_PUBLISHED_CODE)
            or READS_THE_COINS in judged.metrics
            or (_is_reference(judged) and any(one.row["name"] == Reference.name for one in attacks))
        ):
            continue
        k = int(str(params_of(judged.row)["k"])) if kind.access == Access.top_k else 0
        chosen.setdefault((list(Access).index(kind.access), kind.shadows, k), judged)
    return [(_seen(*place), judged) for place, judged in sorted(chosen.items(), key=itemgetter(0))]


def _seen(access: int, shadows: bool, k: int) -> str:
    """Returns what the attacker sees in words; of the likeliest tokens, how many."""
    seen = list(Access)[access].value.replace("top-k", f"top-{k}")
    return f"{seen}, and shadow models" if shadows else seen


def _is_reference(judged: Judged) -> bool:
    """Tells whether an attack ranks the records as the reference attack does."""
    value = judged.metrics.get("spearman_reference", {}).get("value")
    return value is not None and float(str(value)) >= _SAME_RANKING


def _place(judged: Judged) -> tuple[int, str, str]:
    name, params = str(judged.row["name"]), params_of(judged.row)
    place = _ORDER.index(name) if name in _ORDER else len(_ORDER)
    if name == LiRA.name and str(params.get("references")).count(",") + 1 >= _MANY_SHADOWS:
        place = -1
    if name == Reference.name and params.get("reference") != BASE:
        place = len(_ORDER)
    return place, name, str(params)
