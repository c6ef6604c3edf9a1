"""Published figures: the right ones beside ours, marked where they do not compare."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from studies.claims.figures import GAP_PARAMS
from studies.compare.primary_attack import REFERENCE
from studies.plan.cells import Cell
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from studies.report.sections.published import (
    AS_RELEASED,
    CORRECTED,
    _training,
    published,
    published_rows,
)
from tests.processes import ROOT
from tests.studies.planted_report import cell, row, study

FACTS = ROOT / "studies/report/sections/published_tables.json"
DOLLY = "configs/data/dolly.yaml"
STUDY = ROOT / "configs/studies/gpt2-as-released.yaml"
SPLITS = "configs/presets/as_released/splits.yaml"
PRESETS = "configs/studies/../presets/as_released"
ATTACKS = ("Loss", "Min-k%", "Min-k%++", "REF (STABLELM)", "REF (Pretrain)", "Zlib", "MoPe")
ONE_SIDED = json.dumps({"antithetic": False, "draws": 10, "sigma": 0.005})


def cells() -> dict[str, Cell]:
    """KD and SeqKD as released, both on another split or corrected, teacher, control."""
    released = (DOLLY, SPLITS)
    return {
        "kd": cell("student", "kd", fragments=released),
        "seqkd": cell("student", "seqkd", fragments=(*released, f"{PRESETS}/seqkd.yaml")),
        "corrected": cell("student", "seqkd", fragments=released, replicate=2),
        "other_split": cell("student", "kd", replicate=2),
        "teacher": cell("teacher", size="gpt2-xl", fragments=released),
        "control": cell("control", fragments=released),
    }


def test_the_study_of_the_published_runs_is_as_released_with_all_of_its_data(
    tmp_path: Path,
) -> None:
    plan = make_plan(read_study(STUDY), tmp_path)
    names = {"seqkd": "SeqKD", "imitkd": "ImitKD", "gkd": "GKD", "minillm": "MiniLLM"}
    names |= {"kd": "KD", "distillm": "DistillM"}
    students = [cell for cell in plan.cells if cell.role == "student"]
    assert len(students) == 3 * len(names)
    for one in students:
        column = names[str(one.technique).removesuffix("_as_released")]
        assert _training(one, column) == AS_RELEASED
        for option in ("splits.protocol", "encoding.add_bos", "encoding.joint", "encoding.cut"):
            at = one.arguments.index(f"--data.{option}")
            without = replace(one, arguments=one.arguments[:at] + one.arguments[at + 2 :])
            assert _training(without, column) == CORRECTED


def test_figures_stand_beside_those_of_the_same_network_technique_and_statistic() -> None:
    own = cells()
    rows = [
        row(own["kd"], "auroc", 0.6, name="loss"),
        row(own["kd"], "auroc", 0.7, name="zlib"),
        row(own["kd"], "auroc", 0.71, name="as_released_zlib"),
        row(own["kd"], "auroc", 0.72, name=REFERENCE[0], params=REFERENCE[1]),
        row(own["kd"], "auroc", 0.73, name="mope", params=ONE_SIDED),
        row(own["seqkd"], "auroc", 0.61, name="loss"),
        row(own["corrected"], "auroc", 0.62, name="loss"),
        row(own["other_split"], "auroc", 0.63, name="loss"),
        row(own["teacher"], "auroc", 0.9, name="loss"),
        row(own["control"], "auroc", 0.5, name="loss"),
    ]
    found = published_rows(study(list(own.values()), rows))
    as_released, corrected = AS_RELEASED, CORRECTED
    # The heat maps of GPT-2 base: KD 0.56, 0.54, 0.61, 0.49 and so on.
    tables = json.loads(FACTS.read_text())
    base = tables["figures"]["gpt2-xl"]["gpt2-base"]["auroc"]
    assert base["KD"]["Loss"] == 0.56
    expected = [
        (0.6, base["KD"]["Loss"], as_released, as_released),
        (0.7, base["KD"]["Zlib"], as_released, corrected),
        (0.71, base["KD"]["Zlib"], as_released, as_released),
        (0.72, base["KD"]["REF (Pretrain)"], as_released, corrected),
        (0.73, base["KD"]["MoPe"], as_released, as_released),
        (0.61, base["SeqKD"]["Loss"], as_released, as_released),
        (0.62, base["SeqKD"]["Loss"], corrected, as_released),
        (0.63, base["KD"]["Loss"], corrected, as_released),
        (0.9, 0.97, as_released, as_released),
        (0.5, 0.51, as_released, as_released),
    ]
    columns = ["value", "published", "training", "statistic"]
    assert found[columns].to_records(index=False).tolist() == expected


def test_utility_and_memorization_are_in_our_units() -> None:
    own = cells()["kd"]
    rows = [
        row(own, "rouge_l_f1", 0.2, audit="utility", population="held_out", name="rouge_l"),
        row(own, "token_accuracy_gap", 0.01, audit="memorization", params=GAP_PARAMS),
        row(own, "token_accuracy_as_released", 0.05, audit="released"),
        row(own, "token_accuracy_as_released", 0.04, audit="released", population="held_out"),
    ]
    found = published_rows(study([own], rows)).set_index("metric")
    assert found["published"].to_dict() == pytest.approx(
        {"rouge_l_f1": 0.22, "token_accuracy_gap": 0.0022, "token_accuracy_as_released": 0.051}
    )
    assert found.loc["token_accuracy_as_released", "value"] == 0.05


@pytest.mark.parametrize(
    "other",
    [
        {"size": "gpt2-tiny", "family": "gpt2-mini"},
        {"fragments": ("configs/data/builtin.yaml",)},
        {"technique": "imitkd_paper"},
    ],
)
def test_a_study_of_other_networks_data_or_techniques_shows_nothing(other: dict) -> None:
    student = cell("student", **({"technique": "kd"} | other))
    data = study([student], [row(student, "auroc", 0.6)])
    assert published_rows(data).empty
    assert not published(data).shown


def test_the_table_has_both_figures_their_difference_and_counts() -> None:
    student = cells()["kd"]
    data = study([student], [row(student, "auroc", 0.6)])
    table = published(data).tables["published"]
    assert [one.text for one in table.rows[0]] == [
        *(student.alias, "Loss", "as released", "as released"),
        *("0.600 [0.580, 0.620]", "0.56", "+0.040 [+0.020, +0.060]", "300", "310"),
    ]
    drawn = published(data).charts["published"]
    (points,) = drawn["datasets"].values()
    assert [(one["published"], one["value"], one["like"]) for one in points] == [(0.56, 0.6, True)]


def test_the_facts_are_complete() -> None:
    facts = json.loads(FACTS.read_text())
    students = {
        "gpt2-xl": ("gpt2-large", "gpt2-medium", "gpt2-base"),
        "opt-2.7b": ("opt-1.3b", "opt-350m", "opt-125m"),
    }
    names = ("KD", "SeqKD", "GKD", "ImitKD", "MiniLLM", "DistillM", "No KD")
    for teacher, sizes in students.items():
        assert set(facts["figures"][teacher]) == {teacher, *sizes}
        for size, name in product(sizes, names):
            tables = facts["figures"][teacher][size]
            assert set(tables["auroc"][name]) == set(ATTACKS)
            assert all(0.4 < value <= 1.0 for value in tables["auroc"][name].values())
            assert 0.0 <= tables["token_accuracy_gap"][name] < tables["token_accuracy"][name] < 0.1
            assert 15 < tables["rouge_l"][name] < 30
