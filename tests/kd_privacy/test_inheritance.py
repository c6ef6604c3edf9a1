"""The comparisons of a pair of models, on tables made by hand."""

from audits.results import table_from_rows
from kd_privacy.inheritance import inheritance_rows, record_key

EXACT = {"fewest_tokens": 10, "prefix_tokens": 0, "suffix_tokens": 50}
SIDES = ("external", "held_out")
WRITTEN = {
    ("teacher", "external"): (1, 1, 1, 0),
    ("student", "external"): (1, 0, 0, 1),
    ("teacher", "held_out"): (1, 0, 0, 0),
    ("student", "held_out"): (1, 0, 0, 0),
}
"""Whether each record is written word for word; ids are the same on both sides."""
SCORES = {
    ("teacher", "external"): (4.0, 3.0, 2.0, 1.0),
    ("teacher", "held_out"): (0.5, 0.4, 1.5, 0.2),
    ("student", "external"): (4.0, 3.0, 0.3, 0.1),
    ("student", "held_out"): (0.5, 0.4, 0.2, 0.0),
}


def tables(scores: dict[tuple[str, str], tuple[float, ...]]) -> dict[str, object]:
    """Tables of two runs with four records a side."""
    shared = {"step": 0, "params": {}}
    results = [
        {
            **shared,
            "run": run,
            "role": run,
            "audit": "membership",
            "name": "loss",
            "metric": "auroc",
        }
        for run in ("teacher", "student")
    ]
    return {
        "results": table_from_rows("results", results),
        "scores": table_from_rows(
            "scores",
            [
                {**shared, "run": run, "population": side, "name": "loss"}
                | {"record": str(number), "score": score}
                for (run, side), values in scores.items()
                for number, score in enumerate(values)
            ],
        ),
        "memorization": table_from_rows(
            "memorization",
            [
                {"run": run, "step": 0, "population": side, "name": "exact_match", "params": EXACT}
                | {"record": str(number), "value": float(value), "n_tokens": 20}
                for (run, side), values in WRITTEN.items()
                for number, value in enumerate(values)
            ],
        ),
    }


def clusters() -> dict[str, int]:
    names = [record_key(side, str(number)) for side in SIDES for number in range(4)]
    return {name: place for place, name in enumerate(names)}


def test_records_memorized_by_both_one_or_none() -> None:
    rows = inheritance_rows(tables(SCORES), clusters(), never=False)
    found = {
        (row["metric"], row["population"]): row["value"]
        for row in rows
        if row["name"] == "memorized_by"
    }
    assert found == {
        ("both", "external"): 0.25,
        ("both", "held_out"): 0.25,
        ("both_net", "external"): 0.0,
        ("teacher_only", "external"): 0.5,
        ("teacher_only", "held_out"): 0.0,
        ("teacher_only_net", "external"): 0.5,
        ("student_only", "external"): 0.25,
        ("student_only", "held_out"): 0.0,
        ("student_only_net", "external"): 0.25,
        ("neither", "external"): 0.0,
        ("neither", "held_out"): 0.75,
        ("neither_net", "external"): -0.75,
    }


def test_a_share_of_a_teachers_leakage_needs_a_teacher_that_leaks() -> None:
    even = {(run, side): (1.0, 2.0, 3.0, 4.0) for run, side in SCORES}
    (row,) = (
        one
        for one in inheritance_rows(tables(even), clusters(), never=False)
        if one["metric"] == "relative_leakage"
    )
    assert row.get("value") is None
    assert (row["n_members"], row["n_nonmembers"]) == (4, 4)
