"""Who trains on which record: the swap protocol and the published one.

Swap protocol (the default). Near-duplicate clusters are dealt to the pool, public, never and
development in shares, stratified by task. Each cluster of the pool then falls to private or
held_out by a fair coin of its own, so the two sides are only about equally large: the coins must be
independent for a one-run epsilon (Steinke, Nasr and Jagielski 2023) to hold, and exact halves are
not. Every choice is keyed by (split seed, purpose, cluster content).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from common.errors import UserError
from common.keys import key
from datamodules.coins import throw
from datamodules.near_duplicates import cluster_records
from datamodules.records import InstructionRecord
from datamodules.split_options import Protocol, SplitOptions, check_split_options

SPLITS = ("private", "held_out", "public", "never", "development")
POOL = ("private", "held_out")
OVERLAP_ROLE = "overlap"
"""Role of a record of the published protocol whose content another split holds too.

It trains as it did there, and no audit reads it.
"""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a record went.

    Attributes:
        record: the record.
        content: hash of its text.
        split: one of `SPLITS`.
        role: use of a pool record (a field of `Roles`, or "overlap"), "" elsewhere. It is the same
            in every run of the split: a run whose attacks do not read a use audits its records.
        cluster: name of its near-duplicate cluster.
        coin: 1 private, 0 held_out; None where no coin was thrown.
        part: 0-based part of the private split; None elsewhere.
    """

    record: InstructionRecord
    content: str
    split: str
    role: str
    cluster: str
    coin: int | None
    part: int | None


@dataclass(frozen=True, slots=True)
class _Cluster:
    name: str
    task: str
    size: int


def split_records(records: Sequence[InstructionRecord], options: SplitOptions) -> list[Placement]:
    """Places records in splits.

    Args:
        records: all records of a source, in its order.
        options: protocol, shares and seed.

    Returns:
        A placement for every record that is used, in the order of `records`.

    Raises:
        UserError: shares that do not add up, or a split with fewer than `min_records` records.
    """
    check_split_options(options)
    names = cluster_records(records, threshold=options.near_duplicate_threshold)
    deal = _swap if options.protocol == "swap" else _as_released
    placements = _with_parts(deal(records, names, options), options)
    _require_enough(placements, options)
    return placements


def members_of(placements: Sequence[Placement], split: str, protocol: Protocol) -> list[Placement]:
    """Placements of a split; the published protocol's development records are its held-out ones."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the splits are {', '.join(SPLITS)}")
    if protocol == "as_released" and split == "development":
        split = "held_out"
    return [placement for placement in placements if placement.split == split]


def _swap(
    records: Sequence[InstructionRecord], names: Sequence[str], options: SplitOptions
) -> list[Placement]:
    clusters = _clusters(records, names)
    shares = options.fractions
    share_of = {
        "pool": shares.private + shares.held_out,
        "public": shares.public,
        "never": shares.never,
        "development": shares.development,
    }
    never: list[_Cluster] = []
    if options.never_seed is not None:
        never, clusters = _set_apart(clusters, options, options.never_seed)
        rest = 1.0 - share_of.pop("never") or 1.0
        share_of = {name: share / rest for name, share in share_of.items()}
    if options.max_records is not None:
        most = options.max_records - sum(cluster.size for cluster in never)
        clusters = _capped(clusters, most, options.seed, "max_records")
    dealt = {"never": never} | _deal(clusters, share_of, options.seed)
    split_of: dict[str, tuple[str, int | None]] = {}
    for name, cap in asdict(options.caps).items():
        never_seed = options.never_seed if name == "never" else None
        seed = options.seed if never_seed is None else never_seed
        kept = dealt[name] if cap is None else _capped(dealt[name], cap, seed, name)
        for cluster in kept:
            coin = pool_coin(options, cluster.name) if name == "pool" else None
            split_of[cluster.name] = (name if coin is None else POOL[1 - coin], coin)
    return [
        _placement(record, cluster, *split_of[cluster], options)
        for record, cluster in zip(records, names, strict=True)
        if cluster in split_of
    ]


def _set_apart(
    clusters: Sequence[_Cluster], options: SplitOptions, seed: int
) -> tuple[list[_Cluster], list[_Cluster]]:
    """Clusters that are never seen whatever the split's seed, and the others.

    They are drawn from all records, before any are left out: their share of as many as are used.
    """
    total = sum(cluster.size for cluster in clusters)
    used = total if options.max_records is None else min(total, options.max_records)
    share = options.fractions.never * used / total
    dealt = _deal(clusters, {"rest": 1.0 - share, "never": share}, seed, "never")
    return dealt["never"], dealt["rest"]


def _as_released(
    records: Sequence[InstructionRecord], names: Sequence[str], options: SplitOptions
) -> list[Placement]:
    held_out, half = options.held_out_rows, (len(records) - options.held_out_rows) // 2
    if half < 1:
        raise UserError(
            f"as_released holds out the first {held_out} rows and halves the rest, but there are "
            f"{len(records)} records; give more or lower held_out_rows"
        )
    splits = ["held_out"] * held_out + ["private"] * half
    splits += ["public"] * (len(records) - len(splits))
    placements = [
        _placement(record, cluster, split, None, options)
        for record, cluster, split in zip(records, names, splits, strict=True)
    ]
    splits_of: defaultdict[str, set[str]] = defaultdict(set)
    for placement in placements:
        splits_of[placement.content].add(placement.split)
    return [
        p if len(splits_of[p.content]) == 1 else replace(p, role=OVERLAP_ROLE) for p in placements
    ]


def _placement(
    record: InstructionRecord, cluster: str, split: str, coin: int | None, options: SplitOptions
) -> Placement:
    role = _role(options, cluster) if split in POOL else ""
    return Placement(record, record.content, split, role, cluster, coin, part=None)


def _clusters(records: Sequence[InstructionRecord], names: Sequence[str]) -> list[_Cluster]:
    """Clusters with their commonest task (the first in the alphabet where two are as common)."""
    tasks: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record, name in zip(records, names, strict=True):
        tasks[name][record.task] += 1
    return [
        _Cluster(name, min(count, key=lambda task: (-count[task], task)), count.total())
        for name, count in sorted(tasks.items())
    ]


def _stratified_order(clusters: Sequence[_Cluster], seed: int, purpose: str) -> list[_Cluster]:
    """A random order in which any run of clusters holds the tasks in about their overall shares.

    Each task's clusters are shuffled and spread evenly, with jitter, over [0, 1); the order is by
    place.
    """
    by_task: defaultdict[str, list[tuple[int, _Cluster]]] = defaultdict(list)
    for cluster in clusters:
        by_task[cluster.task].append((key(seed, purpose, "shuffle", cluster.name), cluster))
    places = []
    for members in by_task.values():
        total = sum(cluster.size for _, cluster in members)
        before = 0
        for _, cluster in sorted(members, key=lambda member: member[0]):
            jitter = _uniform(seed, purpose, "jitter", cluster.name)
            places.append(((before + jitter * cluster.size) / total, cluster.name, cluster))
            before += cluster.size
    return [cluster for _, _, cluster in sorted(places, key=lambda entry: entry[:2])]


def _deal(
    clusters: Sequence[_Cluster], share_of: dict[str, float], seed: int, purpose: str = "split"
) -> dict[str, list[_Cluster]]:
    """Cuts the stratified order at the cumulative shares; a cluster goes where its middle falls."""
    total = sum(cluster.size for cluster in clusters)
    dealt: dict[str, list[_Cluster]] = {name: [] for name in share_of}
    bounds = list(_cumulative(share_of))
    before = 0
    for cluster in _stratified_order(clusters, seed, purpose):
        middle = (before + cluster.size / 2) / total
        dealt[next(name for name, upper in bounds if middle < upper)].append(cluster)
        before += cluster.size
    return dealt


def _cumulative(share_of: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Names with the upper ends of their shares; the last one is open, whatever rounding did."""
    used = [(name, share) for name, share in share_of.items() if share > 0]
    upper = 0.0
    for position, (name, share) in enumerate(used, start=1):
        upper += share
        yield name, upper if position < len(used) else float("inf")


def _capped(clusters: Sequence[_Cluster], cap: int, seed: int, purpose: str) -> list[_Cluster]:
    """Clusters in stratified order, as many as fit in `cap` records."""
    kept, total = [], 0
    for cluster in _stratified_order(clusters, seed, f"cap {purpose}"):
        if total + cluster.size <= cap:
            kept.append(cluster)
            total += cluster.size
    return kept


def in_world(placements: Sequence[Placement], options: SplitOptions) -> list[Placement]:
    """Throws the coins of the pool anew, as in the world of `options.shadow`, moving nothing else.

    Args:
        placements: what `split_records` returned for any world of these options.
        options: protocol, shares, seed and world.

    Returns:
        What `split_records` returns for `options`, without looking for near-duplicates again.
    """
    thrown = []
    for placement in placements:
        if placement.coin is not None:
            coin = pool_coin(options, placement.cluster)
            placement = replace(placement, split=POOL[1 - coin], coin=coin, part=None)
        thrown.append(placement)
    return _with_parts(thrown, options)


def pool_coin(options: SplitOptions, cluster: str) -> int:
    """Throws the fair coin of a cluster of the pool: 1 private, 0 held_out."""
    return throw(options.seed, "coin", cluster, options.shadow)


def _uniform(*parts: int | str) -> float:
    return (key(*parts) >> 10) / 2**53


def _role(options: SplitOptions, cluster: str) -> str:
    draw = _uniform(options.seed, "role", cluster)
    return next(name for name, upper in _cumulative(asdict(options.roles)) if draw < upper)


def part_of(options: SplitOptions, cluster: str) -> int:
    """The part of the private split that a cluster falls to, whatever other clusters there are."""
    return key(options.seed, "part", cluster) % options.private_parts


def _with_parts(placements: list[Placement], options: SplitOptions) -> list[Placement]:
    """Deals the private clusters to parts."""
    return [
        replace(p, part=part_of(options, p.cluster)) if p.split == "private" else p
        for p in placements
    ]


def _require_enough(placements: Sequence[Placement], options: SplitOptions) -> None:
    counts = Counter(p.split for p in placements)
    shares: dict[str, float] = asdict(options.fractions)
    if options.protocol == "as_released":
        shares |= {"never": 0.0, "development": 0.0}
    for split, share in shares.items():
        if share > 0 and counts[split] < options.min_records:
            raise UserError(
                f"too few records for split {split!r}: {counts[split]} of {len(placements)} "
                f"records, at least {options.min_records} needed; give more records, other "
                "fractions, or lower min_records"
            )
    parts = Counter(p.part for p in placements if p.part is not None)
    if len(parts) < options.private_parts:
        raise UserError(
            f"private_parts is {options.private_parts}, but the near-duplicate clusters of the "
            f"private split fell to {len(parts)} of them only: give fewer parts, or more records"
        )
