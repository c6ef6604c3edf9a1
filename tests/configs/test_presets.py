"""Presets laid over what they belong to: each changes the resolved values it claims to, no other.

Expected values are those of docs/as_released.md.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from audits.scoring.references import BASE
from callbacks import UtilityAudit
from datamodules.batches import EncodingOptions
from kdmodules.student import StudentModule
from studies.plan.planner import make_plan
from studies.plan.study_file import read_study
from tests.configs.conftest import CONFIGS, build, compose, leaves, read_fragment

SLOW = pytest.mark.slow
MODEL = "model.init_args."
SOURCE = f"{MODEL}responses.class_path"
DATASET, BUFFERED = (
    f"kdmodules.responses.{name}" for name in ("DatasetResponses", "BufferedResponses")
)
STUDENT, MIXED, TEACHER, REPLAY = (
    f"kdmodules.responses.{name}"
    for name in ("StudentResponses", "MixedResponses", "TeacherResponses", "AdaptiveReplay")
)
ABSENT = "absent"

# Technique, recipe's size: (preset, {option: (without the preset, with it)}).
CHANGES: dict[tuple[str, str], tuple[str, dict[str, tuple[Any, Any]]]] = {
    ("seqkd", "gpt2-base"): (
        "seqkd",
        {SOURCE: (TEACHER, DATASET), f"{MODEL}reduction.kd_ratio": (0.0, 1.0)},
    ),
    ("imitkd", "gpt2-base"): (
        "imitkd",
        {
            SOURCE: (STUDENT, BUFFERED),
            f"{MODEL}responses.init_args.probability": (ABSENT, 1.0),
            f"{MODEL}responses.init_args.capacity": (ABSENT, 1000),
            f"{MODEL}responses.init_args.unshifted": (ABSENT, True),
        },
    ),
    ("gkd", "opt-125m"): (
        "gkd",
        {
            SOURCE: (MIXED, BUFFERED),
            f"{MODEL}responses.init_args.capacity": (ABSENT, 1000),
            f"{MODEL}responses.init_args.unshifted": (ABSENT, True),
        },
    ),
    ("distillm", "opt-350m"): ("distillm", {SOURCE: (REPLAY, DATASET)}),
    ("distillm_sfkl", "gpt2-base"): ("distillm_sfkl", {SOURCE: (REPLAY, DATASET)}),
    ("minillm", "gpt2-base"): (
        "minillm",
        {
            f"{MODEL}kd_loss.init_args.as_released": (False, True),
            f"{MODEL}responses.init_args.as_released": (False, True),
            f"{MODEL}responses.init_args.whitening": ("round", "micro_batch"),
            f"{MODEL}text_kd_ratio": (0.0, 0.5),
            "trainer.max_steps": (5000, 160),
        },
    ),
}

# Family: an audited student, and the family fragment of the published reference's network.
REFERENCES = {
    "gpt2": ("gpt2-base", "gpt2-xl"),
    "opt": ("opt-125m", "opt-2.7b"),
    "llama": ("open_llama-3b", "open_llama-3b"),
}


def resolved(parser: LightningArgumentParser, *listed: str) -> dict[str, Any]:
    return dict(leaves(compose(parser, *listed).fit.as_dict()))


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Options by name, before and after; which files they came from is left out."""
    before, after = ({k: v for k, v in one.items() if k != "config"} for one in (before, after))
    return {
        name: (before.get(name, ABSENT), after.get(name, ABSENT))
        for name in before.keys() | after.keys()
        if before.get(name, ABSENT) != after.get(name, ABSENT)
    }


def fragments(technique: str, size: str) -> list[str]:
    model = ["base/student", "data/dolly", "data/openwebtext", f"families/{size}"]
    return [*model, f"techniques/{technique}", f"recipes/{technique}/{size}"]


@pytest.mark.parametrize(("technique", "size"), CHANGES)
def test_a_preset_changes_what_it_claims(
    parser: LightningArgumentParser, technique: str, size: str
) -> None:
    preset, expected = CHANGES[technique, size]
    listed = fragments(technique, size)
    after = compose(parser, *listed, f"presets/as_released/{preset}")
    found = changed(resolved(parser, *listed), dict(leaves(after.fit.as_dict())))
    assert found.pop("run.technique") == (technique, f"{technique}_as_released")
    # Options that only the replaced source has go with it; those that both have keep their values.
    found = {
        name: values
        for name, values in found.items()
        if not (name.startswith(f"{MODEL}responses.init_args.") and values[1] == ABSENT)
    }
    assert found == expected
    assert isinstance(build(parser, after).model, StudentModule)


def test_every_preset_is_tried() -> None:
    tried = {preset for preset, _ in CHANGES.values()} | {"splits"}
    tried |= {f"reference_{family}" for family in REFERENCES} | {"utility", "continued_adapter"}
    assert tried == {path.stem for path in (CONFIGS / "presets/as_released").glob("*.yaml")}


@pytest.mark.parametrize(
    "base",
    ["base/student", *(pytest.param(f"base/{one}", marks=SLOW) for one in ("teacher", "control"))],
)
def test_the_published_split(parser: LightningArgumentParser, base: str) -> None:
    technique = ["techniques/kd"] if base == "base/student" else []
    listed = [base, "data/dolly", "families/gpt2-base", *technique]
    before = resolved(parser, *listed)
    after = compose(parser, *listed, "presets/as_released/splits")
    found = changed(before, dict(leaves(after.fit.as_dict())))
    assert found == {
        "data.init_args.splits.protocol": ("swap", "as_released"),
        "data.init_args.encoding.add_bos": (True, False),
        "data.init_args.encoding.joint": (False, True),
        "data.init_args.encoding.cut": ("content", "end"),
    }
    data = build(parser, after).data
    assert (data.splits.protocol, data.splits.held_out_rows) == ("as_released", 4000)
    assert data.encoding == EncodingOptions(add_bos=False, joint=True, cut="end")


def test_the_study_of_the_published_runs_has_the_same_data(tmp_path: Path) -> None:
    preset = read_fragment("presets/as_released/splits")["data"]["init_args"]
    wanted = {f"--data.{name}": value for name, value in leaves(preset)}
    plan = make_plan(read_study(CONFIGS / "studies/gpt2-as-released.yaml"), tmp_path)
    for cell in plan.cells:
        given = dict(pairwise(cell.arguments))
        assert {name: yaml.safe_load(given[name]) for name in wanted} == wanted, cell.alias


@pytest.mark.parametrize(
    "family", ["gpt2", *(pytest.param(one, marks=SLOW) for one in ("opt", "llama"))]
)
def test_the_published_reference(parser: LightningArgumentParser, family: str) -> None:
    student, reference = REFERENCES[family]
    listed = ["base/control", "data/dolly", f"families/{student}"]
    after = compose(parser, *listed, f"presets/as_released/reference_{family}")
    network = read_fragment(f"families/{reference}")["model"]["init_args"]["network"]
    expected = {BASE: network["source"]}
    before = compose(parser, *listed)
    assert before.fit.references.models is None
    assert after.fit.references.models == expected
    found = changed(dict(leaves(before.fit.as_dict())), dict(leaves(after.fit.as_dict())))
    others = {name for name in found if not name.startswith("references.models")}
    pickled = network.get("allow_pickle", False)
    assert others == ({"references.allow_pickle"} if pickled else set())
    assert after.fit.references.allow_pickle == pickled
    assert build(parser, after).references.models == expected


def test_utility_is_measured_where_the_published_split_has_records(
    parser: LightningArgumentParser,
) -> None:
    listed = ["base/teacher", "data/dolly", "families/gpt2-xl", "presets/as_released/splits"]
    for audit, population in (("audits", "never"), ("presets/as_released", "held_out")):
        built_run = build(parser, compose(parser, *listed, f"{audit}/utility"))
        found = [one for one in built_run.trainer.callbacks if isinstance(one, UtilityAudit)]
        assert [one.utility_population for one in found] == [population]
