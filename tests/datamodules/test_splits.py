"""Splits: shares, fair and independent coins, whole clusters, the published protocol, manifests."""

import math
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from datamodules.manifest import read_manifest, write_manifest
from datamodules.records import TASKS, InstructionRecord
from datamodules.split_options import Caps, Fractions, Roles, SplitOptions
from datamodules.splits import POOL, Placement, in_world, members_of, split_records


def make(index: int, task: str, passage: str = "") -> InstructionRecord:
    words = " ".join(f"r{index}w{k}" for k in range(8))
    return InstructionRecord(f"id{index}", words, passage, f"answer {index}", task, f"f:{index}")


def corpus(n: int = 600) -> list[InstructionRecord]:
    """Every tenth record shares its passage with the next one; tasks are of unequal size."""
    records = []
    for i in range(n):
        task = TASKS[min(i % 11, 6)]
        passage = " ".join(f"p{i // 2}word{k}" for k in range(12)) if i % 20 < 2 else ""
        records.append(make(i, task, passage))
    return records


RECORDS = corpus()


def counts(placements: list[Placement]) -> Counter[str]:
    return Counter(p.split for p in placements)


def test_every_record_once_whole_clusters_and_shares():
    placements = split_records(RECORDS, SplitOptions())
    assert [p.record for p in placements] == RECORDS
    sides = defaultdict(set)
    for placement in placements:
        sides[placement.cluster].add((placement.split, placement.role, placement.coin))
    assert len(sides) == 570
    assert all(len(side) == 1 for side in sides.values())
    found = counts(placements)
    assert abs(found["private"] + found["held_out"] - 360) <= 2
    assert abs(found["public"] - 180) <= 2
    assert abs(found["never"] - 30) <= 2
    assert abs(found["development"] - 30) <= 2
    assert {p.coin for p in placements if p.split == "private"} == {1}
    assert {p.coin for p in placements if p.split == "held_out"} == {0}
    assert {p.coin for p in placements if p.split == "public"} == {None}


def test_one_coin_decides_on_all_records_of_a_subject_and_what_is_alike_to_them(tmp_path: Path):
    """Subjects of three records each; every tenth pair of records shares a passage besides."""
    records = [
        replace(record, subject=f"person {i % 200}", task=["own name", ""][i % 2])
        for i, record in enumerate(RECORDS)
    ]
    for options in (SplitOptions(), SplitOptions(shadow=3), SplitOptions(private_parts=2)):
        placements = split_records(records, options)
        sides = defaultdict(set)
        for p in placements:
            sides[p.record.subject].add((p.cluster, p.split, p.role, p.coin, p.part))
        assert all(len(side) == 1 for side in sides.values())
        # The passages join some of the 200 subjects: i with i + 1 where 20 divides i.
        assert len(set.union(*sides.values())) == 190
    coins = {next(iter(side))[3] for side in sides.values()}
    assert coins == {0, 1, None}
    rows = read_manifest(write_manifest(placements, tmp_path))
    assert [row.subject for row in rows] == [p.record.subject for p in placements]


def test_tasks_keep_their_shares():
    placements = split_records(RECORDS, SplitOptions())
    overall = Counter(r.task for r in RECORDS)
    public = Counter(p.record.task for p in placements if p.split == "public")
    for task, n in overall.items():
        assert abs(public[task] - 0.3 * n) <= 3, task


def test_a_split_does_not_depend_on_the_order_of_the_source():
    there = {p.content: (p.split, p.role) for p in split_records(RECORDS, SplitOptions())}
    back = {p.content: (p.split, p.role) for p in split_records(RECORDS[::-1], SplitOptions())}
    assert there == back


def test_coins_are_fair_and_independent_of_each_other_and_of_the_seed():
    clusters = 400
    records = [make(i, TASKS[i % 7]) for i in range(clusters)]
    fractions = Fractions(private=0.5, held_out=0.5, public=0.0, never=0.0, development=0.0)
    coins = []
    for seed in range(30):
        placements = split_records(records, SplitOptions(seed=seed, fractions=fractions))
        coins.append([p.coin for p in placements])
    heads = [sum(row) for row in coins]
    total = sum(heads)
    n = clusters * len(coins)
    assert abs(total - n / 2) < 4 * math.sqrt(n / 4)
    spread = sum((h - clusters / 2) ** 2 for h in heads) / len(heads)
    assert 0.4 * clusters / 4 < spread < 2.0 * clusters / 4, "exact halves would have no spread"
    agreements = sum(a == b for a, b in zip(coins[0], coins[1], strict=True))
    assert abs(agreements - clusters / 2) < 4 * math.sqrt(clusters / 4)


def test_a_cluster_keeps_its_coin_when_others_come_and_go():
    all_of = {p.content: p.coin for p in split_records(RECORDS, SplitOptions())}
    fewer = split_records(RECORDS, SplitOptions(max_records=300))
    kept = [p for p in fewer if p.coin is not None and all_of[p.content] is not None]
    assert len(kept) > 60
    assert all(all_of[p.content] == p.coin for p in kept)


def test_roles_have_their_shares_on_both_sides():
    records = [make(i, TASKS[i % 7]) for i in range(2000)]
    placements = split_records(records, SplitOptions())
    for side in ("private", "held_out"):
        roles = Counter(p.role for p in placements if p.split == side)
        n = sum(roles.values())
        for role, share in (("audit", 0.7), ("shots", 0.06), ("population", 0.14)):
            assert abs(roles[role] - share * n) < 4 * math.sqrt(share * (1 - share) * n)
    assert {p.role for p in placements if p.split not in ("private", "held_out")} == {""}


def test_caps_are_never_exceeded_and_stay_stratified():
    options = SplitOptions(caps=Caps(pool=100, public=60, never=10), seed=4)
    placements = split_records(RECORDS, options)
    found = counts(placements)
    assert 98 <= found["private"] + found["held_out"] <= 100
    assert 59 <= found["public"] <= 60
    assert 9 <= found["never"] <= 10
    assert found["development"] > 20
    tasks = Counter(p.record.task for p in placements if p.split == "public")
    assert set(tasks) == set(TASKS)
    few = split_records(RECORDS, SplitOptions(max_records=200))
    assert 198 <= len(few) <= 200


def test_private_parts_are_disjoint_whole_clusters_of_any_size():
    placements = split_records(RECORDS, SplitOptions(private_parts=3))
    private = [p for p in placements if p.split == "private"]
    parts = Counter(p.part for p in private)
    assert set(parts) == {0, 1, 2}
    # About three binomial standard deviations of a third; clusters of several records spread more.
    expected = len(private) / 3
    assert all(abs(size - expected) < 3 * expected**0.5 for size in parts.values())
    part_of = defaultdict(set)
    for placement in private:
        part_of[placement.cluster].add(placement.part)
    assert all(len(part) == 1 for part in part_of.values())
    assert {p.part for p in placements if p.split != "private"} == {None}


def test_a_cluster_that_is_added_or_taken_away_moves_no_other_to_another_part():
    options = SplitOptions(private_parts=3)
    before = split_records(RECORDS, options)
    part_of = {p.cluster: p.part for p in before if p.split == "private"}
    moved = []
    for shadow in range(20):
        world = in_world(before, replace(options, shadow=shadow))
        private = [p for p in world if p.split == "private" and p.cluster in part_of]
        assert len({p.cluster for p in private}) < len(part_of)
        moved += [p for p in private if p.part != part_of[p.cluster]]
    assert not moved


def test_as_released_goes_by_position_and_development_is_held_out():
    records = [make(i, "open_qa") for i in range(111)]
    options = SplitOptions(protocol="as_released", held_out_rows=40)
    placements = split_records(records, options)
    expected = ["held_out"] * 40 + ["private"] * 35 + ["public"] * 36
    assert [p.split for p in placements] == expected
    development = members_of(placements, "development", "as_released")
    assert development == members_of(placements, "held_out", "as_released")
    assert members_of(placements, "never", "as_released") == []


def test_as_released_takes_content_of_two_sides_out_of_audits_only():
    records = [make(i, "open_qa") for i in range(40)]
    records[15] = replace(records[3], id="other", origin="f:15")
    options = SplitOptions(protocol="as_released", held_out_rows=10, roles=Roles(1, 0, 0, 0))
    placements = split_records(records, options)
    assert [i for i, p in enumerate(placements) if p.role == "overlap"] == [3, 15]
    assert [placements[3].split, placements[15].split] == ["held_out", "private"]
    assert {p.role for p in placements if p.split == "private"} == {"audit", "overlap"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"min_records": 40}, "too few records for split 'never': 30 of 600 records, at least 40"),
        ({"max_records": 20}, "too few records for split"),
        ({"fractions": Fractions(0.3, 0.3, 0.3, 0.3, 0.3)}, "fractions must be at least 0 and add"),
        ({"fractions": Fractions(0.4, 0.2, 0.3, 0.05, 0.05)}, "must be equal, because a fair coin"),
        ({"roles": Roles(audit=0.9)}, "roles must be at least 0 and add up to 1"),
        ({"protocol": "as_released"}, "holds out the first 4000 rows"),
        ({"protocol": "as_released", "max_records": 9}, "max_records: only the swap protocol"),
        ({"caps": Caps(public=0)}, "caps.public is 0: give at least 1"),
        ({"private_parts": 0}, "private_parts is 0: give at least 1"),
        (
            {"private_parts": 500},
            "private_parts is 500, but the near-duplicate clusters of the private",
        ),
        ({"near_duplicate_threshold": 1.5}, "near_duplicate_threshold must be in"),
    ],
)
def test_what_cannot_be_split_says_so(options: dict[str, object], expected: str):
    with pytest.raises(UserError) as caught:
        split_records(RECORDS, SplitOptions(**options))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_split_is_a_programming_error():
    with pytest.raises(ValueError, match="unknown split 'test'"):
        members_of([], "test", "swap")


def test_manifest_comes_back_without_text(tmp_path: Path):
    placements = split_records(RECORDS, SplitOptions(private_parts=2))
    path = write_manifest(placements, tmp_path / "private")
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700
    assert [f.name for f in path.parent.iterdir()] == ["manifest.parquet"]
    rows = read_manifest(path)
    assert [(r.id, r.content, r.split, r.role, r.cluster, r.coin, r.part) for r in rows] == [
        (p.record.id, p.content, p.split, p.role, p.cluster, p.coin, p.part) for p in placements
    ]
    content = path.read_bytes()
    assert b"r7w3" not in content
    assert b"answer" not in content


def test_a_manifest_that_is_none(tmp_path: Path):
    with pytest.raises(UserError, match="no manifest can be read"):
        read_manifest(tmp_path / "none.parquet")


def test_a_shadow_world_throws_the_coins_anew_and_moves_nothing_else():
    real = {p.content: p for p in split_records(RECORDS, SplitOptions(seed=3))}
    worlds = [
        {p.content: p for p in split_records(RECORDS, SplitOptions(seed=3, shadow=j))}
        for j in range(3)
    ]
    for world in worlds:
        assert world.keys() == real.keys()
        for content, placement in world.items():
            was = real[content]
            assert (placement.role, placement.cluster) == (was.role, was.cluster)
            assert (placement.split in POOL) == (was.split in POOL)
            assert placement.split == was.split or was.coin is not None
    tosses = [[w[c].coin for c, p in real.items() if p.coin is not None] for w in (real, *worlds)]
    n = len(tosses[0])
    for a, b in ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3)):
        agreements = sum(x == y for x, y in zip(tosses[a], tosses[b], strict=True))
        assert abs(agreements - n / 2) < 4 * math.sqrt(n) / 2
    assert all(x != y for x, y in zip(tosses[1], tosses[2], strict=True))  # a pair of worlds
    with pytest.raises(UserError, match="shadow"):
        split_records(RECORDS, SplitOptions(protocol="as_released", held_out_rows=9, shadow=0))


@pytest.mark.parametrize(
    "options", [SplitOptions(), SplitOptions(max_records=300), SplitOptions(caps=Caps(never=20))]
)
def test_never_is_the_same_in_all_splits_where_its_seed_is(options: SplitOptions):
    def never(seed: int, never_seed: int | None) -> set[str]:
        placed = split_records(RECORDS, replace(options, seed=seed, never_seed=never_seed))
        return {p.record.id for p in placed if p.split == "never"}

    assert never(1, None) != never(2, None)
    assert never(1, 0) == never(2, 0) == never(0, 0) != never(1, 9)
    assert never(1, 0) != never(0, None)


@pytest.mark.parametrize("max_records", [None, 300])
def test_a_never_of_its_own_seed_leaves_shares_and_coins_as_they_are(max_records: int | None):
    options = SplitOptions(seed=3, max_records=max_records)
    shared = split_records(RECORDS, replace(options, never_seed=0))
    found, plain = counts(shared), counts(split_records(RECORDS, options))
    pool, before = (one["private"] + one["held_out"] for one in (found, plain))
    assert abs(pool - before) <= 4
    for split in ("public", "never", "development"):
        assert abs(found[split] - plain[split]) <= 4, split
    assert len({p.record.id for p in shared}) == len(shared) <= (max_records or len(RECORDS))
    sides = defaultdict(set)
    for placement in shared:
        sides[placement.cluster].add(placement.split)
    assert all(len(side) == 1 for side in sides.values())
    coins = {p.cluster: p.coin for p in split_records(RECORDS, options)}
    kept = [p for p in shared if p.coin is not None and coins.get(p.cluster) is not None]
    assert kept
    assert all(p.coin == coins[p.cluster] for p in kept)


def test_the_published_protocol_has_no_never_to_share():
    with pytest.raises(UserError, match="never_seed: only the swap protocol"):
        split_records(RECORDS, SplitOptions(protocol="as_released", held_out_rows=9, never_seed=0))
