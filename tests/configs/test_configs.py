"""Every fragment is there, composes with the others, and builds what it names."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from callbacks import MembershipAudit, Throughput
from callbacks.audit import AuditCallback
from common.errors import UserError
from kdmodules.language_model import LanguageModelModule
from kdmodules.losses import KDLoss
from kdmodules.responses import ResponseSource
from kdmodules.strategies import require_package
from studies.plan.cells import Cell
from studies.plan.defences import Defence
from studies.plan.planner import make_plan
from studies.plan.schema import Folders
from studies.plan.stages import STAGES
from studies.plan.study_file import read_study
from tests.configs.conftest import CONFIGS, build, compose, leaves, read_fragment

TEXT_DEFENCES = {"cp_delta", "private_ensemble"}
"""Of students that read their teachers' text and nothing else."""
PUBLISHED_STUDENTS = {
    *("gpt2-large", "gpt2-medium", "gpt2-base"),
    *("opt-1.3b", "opt-350m", "opt-125m"),
    "open_llama-3b",
}
PUBLISHED_TEACHERS = {"gpt2-xl", "opt-2.7b", "open_llama-7b", "llama-2-7b"}
PRUNED_STUDENTS = {"llama-2-7b-half", "smollm2-135m-half"}
OFFLINE = {"smollm2-135m"}
MINI = {"gpt2-mini", "opt-mini", "llama-mini"}
TINY = {"gpt2-tiny", "opt-tiny", "llama-tiny"}

FOLDERS = {
    "adapters": {"lora", "none"},
    "audits": {
        *("external", "membership", "utility", "membership_as_released", "membership_reference"),
        *("membership_all", "membership_judged", "membership_shadows", "membership_text"),
        *("membership_weights", "membership_canaries", "membership_access"),
        *("membership_answers", "membership_worlds"),
        *("memorization", "exposure", "spans", "transfer", "released_memorization"),
        *("blocks", "blocks_all", "blocks_sample", "blocks_quick", "blocks_swap", "blocks_tuned"),
        *("memorization_last", "utility_quick", "utility_short", "blocks_few", "blocks_passes"),
        "text_bound",
    },
    "base": {"control", "counterfactual_teacher", "init", "student", "teacher"},
    "data": {"builtin", "canaries", "dolly", "openwebtext", "published_batch", "records"},
    "defences": {
        *("deduplicated", "early_stopping", "goldfish", "query_filter", "regularised"),
        "teacher_output",
        *TEXT_DEFENCES,
        *("dp_teacher", "dp_teacher_heuristic"),
    },
    "families": MINI | TINY | OFFLINE | PUBLISHED_TEACHERS | PUBLISHED_STUDENTS | PRUNED_STUDENTS,
    "objectives": {
        *("forward_kl", "reverse_kl", "symmetric_kl", "skew_forward_kl", "skew_reverse_kl"),
        *("jsd", "total_variation", "alpha_beta", "adaptive_kl", "taid", "top_k"),
        *("policy_gradient", "dataset_targets"),
    },
    "presets/as_released": {
        *("seqkd", "imitkd", "gkd", "distillm", "distillm_sfkl", "minillm", "splits"),
        *("reference_gpt2", "reference_opt", "reference_llama", "utility", "continued_adapter"),
    },
    "recipes/teacher": {"gpt2-mini"} | PUBLISHED_TEACHERS,
    "recipes/init": {"gpt2-tiny"} | PUBLISHED_STUDENTS,
    "recipes/control": {"gpt2-tiny"} | PUBLISHED_STUDENTS,
    "recipes/kd": {"gpt2-tiny"} | PUBLISHED_STUDENTS,
    "recipes/seqkd": {"gpt2-tiny"} | PUBLISHED_STUDENTS,
    "recipes/seqkd_soft": PUBLISHED_STUDENTS,
    "recipes/seqkd_beam": PUBLISHED_STUDENTS,
    "recipes/imitkd": {"gpt2-tiny"} | PUBLISHED_STUDENTS,
    "recipes/imitkd_paper": PUBLISHED_STUDENTS,
    "recipes/gkd": {"gpt2-tiny"} | PUBLISHED_STUDENTS,
    "recipes/minillm": {"gpt2-tiny"} | PUBLISHED_STUDENTS,
    "recipes/distillm": {"gpt2-tiny"} | PUBLISHED_STUDENTS,
    "recipes/distillm_sfkl": PUBLISHED_STUDENTS,
    "sources": {"dataset", "teacher", "student", "mixed", "buffered", "replay", "rollouts"},
    "studies": {
        *(
            "attacks-dolly",
            "ensemble",
            "guarded-text",
            "quickstart",
            "quickstart-dolly",
            "objectives",
            "tasks",
        ),
        *("gpt2", "gpt2-as-released", "llama", "opt", "smollm2-dolly"),
        *("smollm2-blocks", "smollm2-dose", "smollm2-half", "smollm2-techniques"),
        *("exposure", "exposure-dolly", "frontier", "frontier-quick"),
    },
    "teacher_cache": {"full", "top_k"},
    "techniques": {
        *("kd", "seqkd", "seqkd_soft", "seqkd_beam", "imitkd", "imitkd_paper"),
        *("gkd", "minillm", "distillm", "distillm_sfkl"),
    },
    "trainers": {*("cpu", "gpu", "ddp", "fsdp", "fsdp2", "deepspeed_2", "multinode"), "throughput"},
}


STRATEGIES = {
    "ddp": "ddp",
    "fsdp": "FSDPStrategy",
    "fsdp2": "ModelParallelStrategy",
    "deepspeed_2": "DeepSpeedStrategy",
}
"""What a trainer fragment names where it does not leave the choice to Lightning."""


def names(folder: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / folder).glob("*.yaml"))


def fragments(*folders: str) -> list[str]:
    return [f"{folder}/{name}" for folder in folders for name in names(folder)]


def every(*folders: str) -> Iterator[Any]:
    """All fragments of folders; the slow ones bring no option and no type of a value, nor are
    they the first of a folder or of an architecture.
    """
    seen: set[object] = set()
    for fragment in fragments(*folders):
        content = dict(leaves(read_fragment(fragment)))
        brings: set[object] = {fragment.rpartition("/")[0]}
        brings.add(content.get("model.init_args.network.family"))
        brings |= {(name, type(value)) for name, value in content.items()}
        yield pytest.param(fragment, marks=pytest.mark.slow if brings <= seen else ())
        seen |= brings


def assert_kept(config: Namespace, fragment: str) -> None:
    """Every option of the fragment, with its value, is in the composed configuration."""
    composed = dict(leaves(config[config.subcommand].as_dict()))
    for name, value in leaves(read_fragment(fragment)):
        found = composed[name]
        found = list(found) if isinstance(found, tuple) else found
        if isinstance(found, list):
            # Classes are named by strings in a fragment and parsed to themselves.
            found = [
                f"{one.__module__}.{one.__qualname__}" if isinstance(one, type) else one
                for one in found
            ]
        assert found == value, f"{fragment}: {name}"
        assert type(found) is type(value), f"{fragment}: {name}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_is_known(folder: str) -> None:
    assert set(names(folder)) == FOLDERS[folder]


def test_no_file_lies_elsewhere() -> None:
    everything = sorted(path for path in CONFIGS.rglob("*") if path.is_file())
    assert len(everything) == sum(len(expected) for expected in FOLDERS.values())
    for path in everything:
        assert path.suffix == ".yaml", path
        assert read_fragment(str(path.relative_to(CONFIGS).with_suffix("")))
        assert path.read_text(encoding="utf-8").startswith("# "), f"{path} has no heading"


@pytest.mark.parametrize("base", names("base"))
def test_base(parser: LightningArgumentParser, base: str) -> None:
    technique = ["techniques/kd"] if base == "student" else []
    listed = [f"base/{base}", "data/builtin", "families/gpt2-tiny", *technique]
    config = compose(parser, *listed)
    assert config.fit.run.role == base
    assert isinstance(build(parser, config).model, LanguageModelModule)


@pytest.mark.parametrize("data", ["builtin", "dolly"])
def test_data(parser: LightningArgumentParser, data: str) -> None:
    config = compose(parser, "base/teacher", f"data/{data}", "families/gpt2-mini")
    assert_kept(config, f"data/{data}")
    assert isinstance(build(parser, config).data, LightningDataModule)


def test_canaries_lie_over_any_data(parser: LightningArgumentParser) -> None:
    listed = ["base/teacher", "data/builtin", "data/canaries", "families/gpt2-mini"]
    config = compose(parser, *listed, "audits/exposure")
    assert_kept(config, "data/canaries")
    series = [canary.series for canary in build(parser, config).data.canaries]
    assert (series.count("coin"), series.count("exposure")) == (500, 100)


@pytest.mark.parametrize("family", every("families"))
def test_family(parser: LightningArgumentParser, family: str) -> None:
    config = compose(parser, "base/control", "data/dolly", family)
    assert config.fit.run.family == config.fit.model.init_args.network.family
    assert_kept(config, family)
    model = build(parser, config).model
    assert isinstance(model, LanguageModelModule)


def test_an_adapter_is_laid_over_a_family_and_taken_away(parser: LightningArgumentParser) -> None:
    over_tiny = compose(parser, "base/init", "data/builtin", "families/gpt2-tiny", "adapters/lora")
    assert_kept(over_tiny, "adapters/lora")
    adapter = build(parser, over_tiny).model.network.adapter
    # The published adapter's figures; the family has its own targets.
    assert (adapter.r, adapter.alpha, adapter.dropout, adapter.targets) == (16, 64, 0.1, None)
    listed = ["base/init", "data/dolly", "families/open_llama-3b"]
    brought = build(parser, compose(parser, *listed)).model.network.adapter
    assert (brought.r, brought.alpha, brought.dropout) == (16, 64, 0.1)
    assert brought.targets == ["q_proj", "v_proj"]
    without = build(parser, compose(parser, *listed, "adapters/none"))
    assert without.model.network.adapter is None


def test_published_families_bring_their_tokenizer(parser: LightningArgumentParser) -> None:
    for family in sorted(PUBLISHED_TEACHERS | PUBLISHED_STUDENTS):
        contents = read_fragment(f"families/{family}")
        source = contents["model"]["init_args"]["network"]["source"]
        assert contents["data"]["init_args"]["tokenizer"] == source


@pytest.mark.parametrize("recipe", every(*(one for one in FOLDERS if one[:8] == "recipes/")))
def test_recipe(parser: LightningArgumentParser, recipe: str) -> None:
    _, folder, family = recipe.split("/")
    listed = ["data/dolly", f"families/{family}"]
    if folder in STAGES:
        listed = [f"base/{folder}", *listed]
    else:
        # A recipe holds what any technique's student has, so it composes with any of them.
        technique = folder if folder in FOLDERS["techniques"] else "kd"
        listed = ["base/student", *listed, f"techniques/{technique}"]
    config = compose(parser, *listed, recipe)
    assert_kept(config, recipe)
    assert config.fit.trainer.max_epochs is not None or config.fit.trainer.max_steps > 0


@pytest.mark.parametrize("audit", sorted(FOLDERS["audits"] - {"external"}))
def test_audit(parser: LightningArgumentParser, audit: str) -> None:
    listed = ["base/teacher", "data/builtin", "families/gpt2-mini", f"audits/{audit}"]
    config = compose(parser, *listed)
    callbacks = build(parser, config).trainer.callbacks
    assert [isinstance(callback, AuditCallback) for callback in callbacks] == [True]
    # membership_text and its like are kinds of the one membership audit: the last of them runs.
    assert audit.startswith(callbacks[0].audit)


def test_audits_append(parser: LightningArgumentParser) -> None:
    audits = ["audits/membership", "audits/utility"]
    config = compose(parser, "base/teacher", "data/builtin", "families/gpt2-mini", *audits)
    found = [callback.audit for callback in build(parser, config).trainer.callbacks]
    assert found == ["membership", "utility"]


@pytest.mark.parametrize("trainer", sorted(FOLDERS["trainers"] - {"throughput"}))
def test_trainer(parser: LightningArgumentParser, trainer: str) -> None:
    fragment = f"trainers/{trainer}"
    config = compose(parser, "base/teacher", "data/builtin", "families/gpt2-mini", fragment)
    assert_kept(config, fragment)
    if trainer.startswith("deepspeed") and find_spec("deepspeed") is None:
        with pytest.raises(UserError, match="pip install deepspeed"):
            require_package(config.fit.trainer.strategy)
        return
    strategy = build(parser, config).trainer.strategy
    named = strategy if isinstance(strategy, str) else type(strategy).__name__
    assert named == STRATEGIES.get(trainer, "auto")


@pytest.mark.parametrize("defence", every("defences"))
def test_defence(parser: LightningArgumentParser, defence: str) -> None:
    """Each is laid over what a study lays it over, and says of its run that it is there."""
    name = defence.partition("/")[2]
    of = Defence.model_validate(name, context=Folders(CONFIGS, CONFIGS)).of
    technique = [f"techniques/{'seqkd' if name in TEXT_DEFENCES else 'kd'}"]
    if of == "teacher":
        technique = ["recipes/teacher/gpt2-mini"]
    listed = [f"base/{of}", "data/builtin", "families/gpt2-mini", *technique, defence]
    config = compose(parser, *listed)
    assert_kept(config, defence)
    assert config.fit.run.defence == name
    assert isinstance(build(parser, config).model, LanguageModelModule)


def test_throughput_is_watched_beside_the_audits(parser: LightningArgumentParser) -> None:
    listed = ["families/gpt2-mini", "audits/membership", "trainers/throughput"]
    config = compose(parser, "base/teacher", "data/builtin", *listed)
    callbacks = build(parser, config).trainer.callbacks
    assert [type(callback) for callback in callbacks] == [MembershipAudit, Throughput]


def test_several_machines_are_laid_over_a_strategy(
    parser: LightningArgumentParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("fabric", "pytorch"):
        # Nothing is put on these devices: a trainer only counts them.
        monkeypatch.setattr(f"lightning.{package}.accelerators.cuda.num_cuda_devices", lambda: 8)
    listed = ["base/teacher", "data/builtin", "families/gpt2-mini", "trainers/fsdp2"]
    options = build(parser, compose(parser, *listed, "trainers/multinode")).trainer
    names = ("accelerator", "strategy", "devices", "num_nodes", "precision")
    trainer = Trainer(logger=False, **{name: options[name] for name in names})
    assert type(trainer.strategy).__name__ == "ModelParallelStrategy"
    assert (trainer.num_nodes, trainer.num_devices, trainer.precision) == (2, 8, "bf16-mixed")


def representatives(cells: list[Cell]) -> list[Cell]:
    """As many cells as hold every fragment, option and level of a product once.

    Recipes may repeat without a cell of their own: `test_recipe` composes them.
    """
    chosen: list[Cell] = []
    seen: set[str] = set()
    for least in (2, 1):
        for cell in cells:
            words = {word for word in cell.arguments if word.endswith(".yaml") or word[:2] == "--"}
            new = {word for word in words if "/recipes/" not in word} - seen
            if len(new) >= least:
                chosen.append(cell)
                seen |= words
    return chosen


@pytest.mark.parametrize(
    "study",
    # All others have many commands to parse.
    [
        pytest.param(study, marks=[pytest.mark.slow] * (study != "quickstart"))
        for study in names("studies")
    ],
)
def test_study(parser: LightningArgumentParser, study: str, tmp_path: Path) -> None:
    checked = read_study(f"configs/studies/{study}.yaml")
    assert checked.name == study
    cells = make_plan(checked, tmp_path).cells
    assert {cell.stage for cell in cells} >= {"teacher", "student"}
    # Replicates differ in their seeds alone.
    for cell in representatives([one for one in cells if one.replicate == checked.replicates[0]]):
        config = parser.parse_args(list(cell.arguments))
        assert config.fit.run_dir == cell.run_dir
        if cell.factors:
            model = build(parser, config).model
            assert isinstance(model.kd_loss, KDLoss)
            assert isinstance(model.responses, ResponseSource)


PUBLISHED_STUDY = """
name: published
data: dolly
families:
  - {teacher: gpt2-xl, sizes: [gpt2-large, gpt2-medium, gpt2-base]}
  - {teacher: opt-2.7b, sizes: [opt-1.3b, opt-350m, opt-125m]}
  - {teacher: open_llama-7b, sizes: [open_llama-3b]}
techniques:
  - {fragment: kd, start: init}
audits: [membership]
"""


def test_published_pairs_make_a_study(parser: LightningArgumentParser, tmp_path: Path) -> None:
    file = tmp_path / "published.yaml"
    file.write_text(PUBLISHED_STUDY, encoding="utf-8")
    cells = make_plan(read_study(file), tmp_path).cells
    # Two teachers for each of three families; init, control, student, counterfactual per size.
    assert len(cells) == 3 * 2 + 7 * 4
    recipes = {word for cell in cells for word in cell.arguments if "/recipes/" in word}
    assert len(recipes) == 3 + 7 + 7 + 7
    for cell in representatives(list(cells)):
        config = parser.parse_args(list(cell.arguments))
        distils = cell.stage in ("student", "counterfactual")
        assert config.fit.model.init_args.network.source.endswith("/export") == distils


def headed_commands() -> list[tuple[str, str]]:
    """Fragments whose heading holds a `kd-privacy` command, and that command."""
    found = []
    for fragment in fragments("audits", "base", "defences", "techniques", "presets/as_released"):
        text = (CONFIGS / f"{fragment}.yaml").read_text(encoding="utf-8")
        heading = "\n".join(re.findall(r"^# ?(.*)$", text, flags=re.MULTILINE))
        commands = re.findall(r"^kd-privacy (?:.*\\\n)*.*$", heading, flags=re.MULTILINE)
        found += [(fragment, command) for command in commands]
    return found


@pytest.mark.parametrize(("fragment", "command"), headed_commands())
def test_headed_command(parser: LightningArgumentParser, fragment: str, command: str) -> None:
    words = shlex.split(command.replace("\\\n", " "))
    assert f"configs/{fragment}.yaml" in words
    config = parser.parse_args(words[1:])
    model = build(parser, config).model
    folder, _, name = fragment.partition("/")
    if folder == "techniques":
        assert config.fit.run.technique == name
        assert isinstance(model.kd_loss, KDLoss)
        assert isinstance(model.responses, ResponseSource)


def test_what_must_have_a_command_has_one() -> None:
    expected = {*fragments("techniques", "presets/as_released"), "audits/external", "base/teacher"}
    assert {fragment for fragment, _ in headed_commands()} >= expected
