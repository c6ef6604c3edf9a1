"""Options of the splits: protocol, shares, caps, uses."""

from dataclasses import asdict, dataclass
from typing import Literal

from common.errors import UserError
from common.options import require_at_least

Protocol = Literal["swap", "as_released"]
SHARE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Fractions:
    """Share of the records in each split; together 1, private and held_out equal."""

    private: float = 0.30
    held_out: float = 0.30
    public: float = 0.30
    never: float = 0.05
    development: float = 0.05


@dataclass(frozen=True)
class Roles:
    """Share of the pool's clusters, on both sides, that each use may have; together 1.

    A cluster's use is drawn with the split and depends on nothing else. A run takes from its audits
    only those uses that one of its attacks reads; records of the others are audited.

    Attributes:
        audit: members and non-members of the audits, whatever the attacks.
        shots: prefixes of recall and con_recall.
        population: records to compare with, for attacks of your own (those here take never).
        calibration: thresholds and signs that are fixed beforehand, for attacks of your own.
    """

    audit: float = 0.70
    shots: float = 0.06
    population: float = 0.14
    calibration: float = 0.10


@dataclass(frozen=True)
class Caps:
    """Most records in a split, for small runs; None takes all. The pool is both its sides."""

    pool: int | None = None
    public: int | None = None
    never: int | None = None
    development: int | None = None


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How records are split.

    Attributes:
        protocol: swap, or as_released: the first `held_out_rows` rows are held out and serve as
            development too, the rest is halved by position, private first.
        seed: of every choice that the swap protocol makes; a replicate of an experiment has its
            own.
        fractions: shares of the splits (swap).
        roles: shares of the uses that pool records are kept for.
        max_records: most records of all, drawn before anything is split (swap).
        caps: most records of a split (swap).
        min_records: fewest records of any split that has a share.
        private_parts: disjoint parts of the private split, one for each teacher of an ensemble. A
            cluster's part is a keyed hash of it, so that no other cluster has a say.
        held_out_rows: rows held out by as_released.
        shadow: throws the coins between private and held_out anew, by this number, and moves
            nothing else: the world of a shadow teacher (swap). An odd one has the opposite coins of
            the number before it.
        never_seed: of the choice which clusters no run trains on (swap), so that runs of different
            `seed` have the same `never`. None: `seed` deals them with the others.
        near_duplicate_threshold: Jaccard similarity from which two texts are kept on one side.
    """

    protocol: Protocol = "swap"
    seed: int = 0
    fractions: Fractions = Fractions()
    roles: Roles = Roles()
    max_records: int | None = None
    caps: Caps = Caps()
    min_records: int = 4
    private_parts: int = 1
    held_out_rows: int = 4000
    shadow: int | None = None
    never_seed: int | None = None
    near_duplicate_threshold: float = 0.7


def check_split_options(options: SplitOptions) -> None:
    """Refuses options that contradict each other.

    Raises:
        UserError: names the option, what was found and what is possible.
    """
    for name in ("fractions", "roles"):
        shares = asdict(getattr(options, name))
        adds_up = abs(sum(shares.values()) - 1) <= SHARE_TOLERANCE
        if not (adds_up and min(shares.values()) >= 0):
            raise UserError(f"{name} must be at least 0 and add up to 1; found {shares}")
    require_threshold(options.near_duplicate_threshold)
    caps = {f"caps.{name}": cap for name, cap in asdict(options.caps).items()}
    limits = {"max_records": options.max_records, **caps}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if options.protocol == "as_released":
        if given:
            raise UserError(f"{', '.join(given)}: only the swap protocol caps records")
        if options.shadow is not None:
            raise UserError("shadow: only the swap protocol throws coins")
        if options.never_seed is not None:
            raise UserError("never_seed: only the swap protocol has records that no run trains on")
    else:
        _check_fair(options.fractions)
    require_at_least(0, min_records=options.min_records)
    counts = {"private_parts": options.private_parts, "held_out_rows": options.held_out_rows}
    require_at_least(1, **counts, **given)


def require_threshold(threshold: float, option: str = "near_duplicate_threshold") -> None:
    """Refuses a similarity that no two texts can have, or any two have.

    Raises:
        UserError: With the option's name.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"{option} must be in (0, 1], found {threshold}")


def _check_fair(fractions: Fractions) -> None:
    if not abs(fractions.private - fractions.held_out) <= SHARE_TOLERANCE:
        raise UserError(
            "fractions.private and fractions.held_out must be equal, because a fair coin decides "
            f"between them; found {fractions.private} and {fractions.held_out}"
        )
