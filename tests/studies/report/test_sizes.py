"""Heat maps: one for one size, a panel for each of several, means over replicates."""

import numpy as np
import pandas as pd
import pytest

from studies.claims.figures import GAP_PARAMS
from studies.report.exports import write_charts
from studies.report.sections.attacks import attack_heat, attacks
from studies.report.study_data import StudyData
from tests.studies.planted_report import cell, row, study

SIZES = ("gpt2-large", "gpt2-base")


def value_of(size: str, technique: str, attack: str, replicate: int) -> float:
    """A figure for each place, so that a wrong place shows."""
    seed = [SIZES.index(size), *technique.encode(), *attack.encode(), replicate]
    return float(np.random.default_rng(seed).uniform(0.5, 0.9))


def planted(sizes: tuple[str, ...], replicates: int = 1) -> StudyData:
    cells, rows = [], []
    for replicate in range(replicates):
        teacher = cell("teacher", size="gpt2-xl", replicate=replicate)
        cells.append(teacher)
        rows += [row(teacher, "auroc", 0.95, name=attack) for attack in ("loss", "zlib")]
        for size in sizes:
            for technique in ("kd", "gkd"):
                one = cell("student", technique, size=size, replicate=replicate)
                cells.append(one)
                for attack in ("loss", "zlib"):
                    value = value_of(size, technique, attack, replicate)
                    rows.append(row(one, "auroc", value, name=attack))
                gap = {"audit": "memorization", "name": "token_accuracy", "params": GAP_PARAMS}
                value = value_of(size, technique, "gap", replicate)
                rows.append(row(one, "token_accuracy_gap", value) | gap)
                utility = {"audit": "utility", "population": "never", "name": "rouge_l"}
                rows.append(row(one, "rouge_l_f1", value / 3) | utility)
    return study(cells, rows)


def drawn(spec: dict) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(rows) for rows in spec["datasets"].values()])


def test_one_size_has_one_map_as_wide_as_its_place() -> None:
    data = planted(SIZES[1:])
    spec = attack_heat(data, data.auroc_rows())
    assert spec["width"] == "container"
    assert "vconcat" not in spec
    assert set(attacks(data).charts) == {"heat"}


def test_every_size_has_a_panel_with_its_teacher(tmp_path) -> None:
    data = planted(SIZES)
    spec = attack_heat(data, data.auroc_rows())
    table = drawn(spec).set_index(["panel", "label", "attack"])["value"]
    assert len(table) == 2 * 3 * 2
    for size in SIZES:
        panel = f"gpt2-xl → {size}"
        assert table[panel, "teacher", "zlib"] == 0.95
        for technique in ("kd", "gkd"):
            expected = value_of(size, technique, "zlib", 0)
            assert table[panel, f"student · {technique}", "zlib"] == expected
    assert [one["name"] for one in spec["params"]] == ["ink"]
    write_charts({"heat": spec}, tmp_path)
    assert "0.95" in (tmp_path / "heat.svg").read_text(encoding="utf-8")


def test_cells_are_means_over_replicates() -> None:
    data = planted(SIZES, replicates=5)
    found = {
        "heat": drawn(attack_heat(data, data.auroc_rows())).query("attack == 'zlib'"),
        "gap": drawn(attacks(data).charts["gap_heat"]),
        "rouge": drawn(attacks(data).charts["rouge_heat"]),
    }
    values = {
        attack: [value_of("gpt2-base", "gkd", attack, number) for number in range(5)]
        for attack in ("zlib", "gap")
    }
    panel = found["heat"].query("panel.str.endswith('base') and label == 'student · gkd'")
    assert panel["value"].item() == pytest.approx(np.mean(values["zlib"]))
    for name, share in (("gap", 1.0), ("rouge", 1 / 3)):
        one = found[name].query("label == 'gpt2-base' and technique == 'gkd'")
        assert one["value"].item() == pytest.approx(share * np.mean(values["gap"]))
