"""Products of objectives and response sources: what they stand for, and which are impossible."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from kdmodules import losses, responses
from kdmodules.losses import KDLoss
from kdmodules.responses import ResponseSource
from studies.plan.cells import Cell, Plan
from studies.plan.study_file import read_study
from tests.processes import ROOT

PlanOf = Callable[..., Plan]
CONFIGS = ROOT / "configs"
OBJECTIVES = {"forward_kl": "ForwardKL", "jsd": "JensenShannon", "policy": "PolicyGradient"}
SOURCES = {"dataset": "DatasetResponses", "rollouts": "TeacherMixedRollouts"}


def fragment(project: Path, kind: str, name: str, text: str) -> None:
    path = project / "configs" / kind / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


@pytest.fixture
def factors(project: Path) -> Path:
    """The study file of `project`, beside fragments of objectives and sources."""
    for kind, option, package, names in (
        ("objectives", "kd_loss", "losses", OBJECTIVES),
        ("sources", "responses", "responses", SOURCES),
    ):
        for name, built in names.items():
            named = {"class_path": f"kdmodules.{package}.{built}"}
            content = {"model": {"init_args": {option: named}}}
            fragment(project, kind, name, yaml.safe_dump(content))
    return project / "configs/studies/small.yaml"


def write(path: Path, entry: str) -> Path:
    text = path.read_text()
    assert "techniques: [kd]\n" in text
    path.write_text(text.replace("techniques: [kd]\n", f"techniques:\n  - {entry}\n"))
    return path


def arguments(cell: Cell) -> tuple[list[str], dict[str, str]]:
    """A cell's fragments by name, and its options apart from those that carry its name."""
    words = list(cell.arguments[1:])
    pairs = list(zip(words[::2], words[1::2], strict=True))
    options = {name: value for name, value in pairs if name != "-c"}
    for name in ("--run_dir", "--run.name", "--run.technique"):
        del options[name]
    return [Path(value).stem for name, value in pairs if name == "-c"], options


def test_a_product_multiplies_and_keeps_all_else_equal(factors: Path, plan_of: PlanOf) -> None:
    entry = (
        "{fragment: kd, start: init, overrides: {model.lr: 0.1}, objectives: [forward_kl, "
        "{fragment: jsd, label: skewed, overrides: {model.kd_loss.beta: 0.2}}], "
        "sources: [dataset, {fragment: rollouts, overrides: {model.responses.rollouts: 8}}]}"
    )
    write(factors, entry)
    plan = plan_of()
    for stage in ("student", "counterfactual"):
        cells = {cell.factors: cell for cell in plan.cells if cell.stage == stage}
        assert list(cells) == list(product(("forward_kl", "skewed"), ("dataset", "rollouts")))
        fragments, plain = arguments(cells["forward_kl", "dataset"])
        assert plain["--model.lr"] == "0.1"
        assert "--model.network.source" in plain
        at = fragments.index("kd")
        assert fragments[at:] == ["kd", "forward_kl", "dataset", "membership"]
        for (objective, source), cell in cells.items():
            assert cell.technique == f"{objective}+{source}"
            found, options = arguments(cell)
            skewed = {"--model.kd_loss.beta": "0.2"} if objective == "skewed" else {}
            rolled = {"--model.responses.rollouts": "8"} if source == "rollouts" else {}
            assert options == plain | skewed | rolled
            levels = ["jsd" if objective == "skewed" else objective, source]
            assert found == [*fragments[: at + 1], *levels, "membership"]
    assert {cell.factors for cell in plan.cells if cell.technique is None} == {None}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "{fragment: kd, objectives: [jsd, policy], sources: [rollouts, dataset]}",
            r":8: techniques.0.objectives.1: policy cannot be trained on dataset, which leaves no "
            "advantages, mixture_weight, old_logp",
        ),
        ("{fragment: kd, objectives: [jsd]}", r":8: techniques.0: the key 'sources' is missing"),
        ("{fragment: kd, sources: [dataset]}", r":8: .* the key 'objectives' is missing"),
        ("{objectives: [jsd], sources: [dataset]}", r":8: .* the key 'fragment' is missing"),
        ("{fragment: kd, objectives: [], sources: [dataset]}", r"objectives: expected a list of"),
        (
            "{fragment: kd, objectives: [tsallis], sources: [dataset]}",
            r"objectives.0.fragment: no such fragment: .*; there are .*jsd",
        ),
        ("{fragment: kd, label: a, objectives: [jsd], sources: [dataset]}", "label: unknown key"),
        (
            "{fragment: kd, objectives: [jsd, jsd], sources: [dataset]}",
            r"techniques.0: 'jsd\+dataset' is there twice",
        ),
        (
            "{fragment: kd, objectives: [{fragment: jsd, overrides: {model.optimizer.lr: 1.0}}], "
            "sources: [dataset]}",
            r"overrides.model.optimizer.lr: here only options .* model.kd_loss.<option>",
        ),
        (
            "{fragment: kd, objectives: [{fragment: jsd, overrides: {model.kd_loss.class_path: x}}]"
            ", sources: [dataset]}",
            r"overrides.model.kd_loss.class_path: here only options of the class",
        ),
        (
            "{fragment: kd, objectives: [{fragment: jsd, overrides: {model.kd_loss.a: {b: 1}}}], "
            "sources: [dataset]}",
            r"overrides.model.kd_loss.a: write nested options with dots",
        ),
        ("{fragment: kd, label: a+b}", r"label: expected a name of letters, digits, - and _"),
    ],
)
def test_a_mistaken_product_is_named_with_its_line(factors: Path, entry: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_study(write(factors, entry))


@pytest.mark.parametrize(
    "text",
    [
        "model: {init_args: {kd_loss: {class_path: kdmodules.losses.JensenShannon}, lm_coef: 1.0}}",
        "model: {init_args: {kd_loss: {class_path: kdmodules.losses.JensenShannon}}}\ndata: {}",
        "model: {init_args: {kd_loss: {class_path: kdmodules.responses.DatasetResponses}}}",
        "model: {init_args: {responses: {class_path: kdmodules.losses.JensenShannon}}}",
        "model: {init_args: {kd_loss: {class_path: kdmodules.losses.Nowhere}}}",
        "model: {init_args: {kd_loss: {class_path: nowhere.Loss}}}",
        "model: {init_args: {kd_loss: {}}}",
        "nothing",
        "{",
    ],
)
def test_a_fragment_of_an_objective_holds_an_objective_alone(
    project: Path, factors: Path, text: str
) -> None:
    fragment(project, "objectives", "jsd", text)
    path = write(factors, "{fragment: kd, objectives: [jsd], sources: [dataset]}")
    with pytest.raises(UserError, match=r":8: techniques.0.objectives.0: .*jsd.yaml: expected mod"):
        read_study(path)


def named(folder: str, option: str) -> set[str]:
    contents = [yaml.safe_load(path.read_text()) for path in (CONFIGS / folder).glob("*.yaml")]
    models = [content.get("model", {}).get("init_args", {}) for content in contents]
    paths = [model[option]["class_path"] for model in models if option in model]
    return {path.rpartition(".")[2] for path in paths}


def test_every_objective_and_source_has_a_fragment() -> None:
    for folders, option, package, base in (
        (["objectives"], "kd_loss", losses, KDLoss),
        # A source that is a defence is chosen among the defences.
        (["sources", "defences"], "responses", responses, ResponseSource),
    ):
        every = [value for value in vars(package).values() if isinstance(value, type)]
        plugs = {one.__name__ for one in every if issubclass(one, base)}
        found = set().union(*(named(folder, option) for folder in folders))
        assert found == plugs - {base.__name__}


def test_the_shipped_product_is_whole() -> None:
    techniques = read_study(CONFIGS / "studies/objectives.yaml").techniques
    labels = {technique.label for technique in techniques}
    objectives, sources = (
        {path.stem for path in (CONFIGS / kind).glob("*.yaml")}
        for kind in ("objectives", "sources")
    )
    possible = set(product(objectives - {"policy_gradient", "dataset_targets"}, sources))
    expected = possible | {("policy_gradient", "rollouts"), ("dataset_targets", "mixed")}
    assert labels == {f"{objective}+{source}" for objective, source in expected}
    assert {technique.start for technique in techniques} == {"init"}
