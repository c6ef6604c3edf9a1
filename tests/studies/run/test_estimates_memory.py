"""Estimated parameters and memory, against published counts, arithmetic and measured peaks."""

import json
from dataclasses import replace

import pytest
import yaml

from benchmarks.estimates import Row, held_share
from benchmarks.training_memory import Case, Peak
from studies.plan.settings import Settings
from studies.run.estimates.layout import Layout, UnknownLayoutError, layout_of
from studies.run.estimates.memory import TeacherWeights, TrainingRun
from studies.run.estimates.networks import NetworkSpec, UnknownNetworkError, network_of
from tests.processes import ROOT

NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
GPT2 = {"n_layer": 2, "n_embd": 96, "n_head": 4, "vocab_size": 64, **NO_DROPOUT}
LLAMA = {
    **{"num_hidden_layers": 2, "hidden_size": 96, "intermediate_size": 160, "vocab_size": 64},
    **{"num_attention_heads": 4, "num_key_value_heads": 4},
}
LORA = json.dumps({"r": 4, "alpha": 8, "dropout": 0.1, "targets": None})


def spec(family: str, config: dict[str, object], adapter: str = "") -> NetworkSpec:
    return NetworkSpec(family, json.dumps(config), adapter)


def family_fragment(name: str) -> NetworkSpec:
    path = ROOT / "configs/families" / f"{name}.yaml"
    return network_of(Settings(yaml.safe_load(path.read_text())), None)


@pytest.mark.parametrize(
    ("name", "parameters", "trained"),
    [
        # The published counts; of LoRA r (in + out) for two projections of each block.
        ("gpt2-xl", 1_557_611_200, 1_557_611_200),
        ("opt-350m", 331_196_416, 331_196_416),
        ("open_llama-7b", 6_738_415_616 + 32 * 2 * 16 * 8192, 32 * 2 * 16 * 8192),
        ("open_llama-3b", 3_426_473_600 + 26 * 2 * 16 * 6400, 26 * 2 * 16 * 6400),
    ],
)
def test_parameters_of_published_networks(name: str, parameters: int, trained: int) -> None:
    figures = family_fragment(name).figures()
    assert (figures.parameters, figures.trainable) == (parameters, trained)
    assert (parameters - figures.root) % figures.block == 0


def run_of(network: NetworkSpec, **changes: object) -> TrainingRun:
    return replace(TrainingRun(network.figures(), (), Layout("single", 1)), **changes)


@pytest.mark.parametrize(
    ("strategy", "weights", "gradients", "moments"),
    [
        ("ddp", 4.0, 4.0, 8.0),
        ("deepspeed_2", 4.0, 1.0, 2.0),
        ("fsdp", 1.0, 1.0, 2.0),
        ("fsdp2", 1.0, 1.0, 2.0),
    ],
)
def test_state_is_divided_as_the_strategy_divides_it(
    strategy: str, weights: float, gradients: float, moments: float
) -> None:
    run = run_of(spec("gpt2", GPT2), layout=Layout(strategy, 4))
    found, parameters = run.terms, run.student.parameters
    assert found["weights"] == weights * parameters
    assert found["optimiser state"] == moments * parameters
    assert found["gradients"] == gradients * parameters
    assert ("buckets of gradients" in found) == (strategy == "ddp")
    gathered = 2 * 4 * (run.student.root + 2 * run.student.block)
    sharded = strategy in ("fsdp", "fsdp2")
    assert found.get("gathered weights and gradients", 0) == (gathered if sharded else 0)


def test_precisions_of_the_state() -> None:
    student = spec("gpt2", GPT2).figures()
    expected = {
        ("single", 1, "bf16-mixed"): (4, 8),
        ("single", 1, "bf16-true"): (2, 4),
        ("deepspeed_2", 2, "bf16-mixed"): (2, 12 / 2),
    }
    for (strategy, devices, precision), (weight, state) in expected.items():
        run = run_of(spec("gpt2", GPT2), layout=Layout(strategy, devices, precision))
        found = run.terms
        assert found["weights"] == weight * student.parameters
        assert found["optimiser state"] == state * student.parameters


def test_an_adapter_has_state_for_itself_alone() -> None:
    run = run_of(spec("llama", LLAMA, LORA))
    found, student = run.terms, run.student
    assert found["optimiser state"] == 8 * student.trainable < student.parameters
    assert student.trainable == 2 * 2 * 4 * (96 + 96)


def test_what_teachers_take() -> None:
    network = spec("gpt2", GPT2)
    teacher = replace(network.figures(), parameters=1_000_000, root=1000, block=200)
    run = run_of(network, teachers=(teacher,))

    def held(weights: TeacherWeights) -> float:
        return replace(run, teacher_weights=weights).terms["teachers"]

    gathered = 1000 + 2 * 200
    assert held(TeacherWeights()) == 4e6
    assert held(TeacherWeights(bytes=2, shards=4)) == 2 * (250_000 + gathered)
    assert held(TeacherWeights(2, 4, offloaded=True)) == 2 * gathered
    assert held(TeacherWeights(cached=True)) == 4 * 64 * 96
    assert run.bytes == 16 * run.student.parameters + 4e6


@pytest.mark.parametrize(("devices", "gigabytes"), [(8, 24), (2, 80)])
def test_the_7b_3b_pair_fits_where_it_is_to_fit(devices: int, gigabytes: int) -> None:
    student, teacher = family_fragment("open_llama-3b"), family_fragment("open_llama-7b")
    layout = Layout("fsdp2", devices, "bf16-mixed")
    kd = TrainingRun(
        student=student.figures(),
        teachers=(teacher.merged().figures(),),
        layout=layout,
        teacher_weights=TeacherWeights(shards=devices),
    )
    tuning = replace(kd, student=teacher.figures(), teachers=())
    for run in (kd, tuning):
        assert run.bytes < gigabytes * 1e9
    whole = replace(
        kd, teacher_weights=TeacherWeights(), layout=Layout("ddp", devices, "bf16-mixed")
    )
    assert whole.bytes > 40e9


def test_what_is_held_against_measured_peaks() -> None:
    """The documentation states these limits."""
    measured = json.loads((ROOT / "benchmarks/results/estimates.json").read_text())
    rows = [Row(Case(**one["case"]), Peak(**one["peak"])) for one in measured["memory"]]
    shares = [held_share(row) for row in rows]
    assert max(shares) < 1
    assert min(held_share(row) for row in rows if "GPT-2 small" in row.case.name) > 0.6
    assert shares == pytest.approx(measured["shares"])


def test_layouts_are_read_from_the_trainers_options() -> None:
    def found(**trainer: object) -> Layout:
        return layout_of(Settings({"trainer": {"accelerator": "gpu", **trainer}}))

    model_parallel = {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}
    stages = {n: {"class_path": "x.DeepSpeedStrategy", "init_args": {"stage": n}} for n in (2, 3)}
    assert found(devices=1, strategy="fsdp") == Layout("single", 1)
    assert found(devices=4, num_nodes=2) == Layout("ddp", 8)
    assert found(devices="4", strategy=model_parallel) == Layout("fsdp2", 4)
    assert found(devices=[0, 1], strategy=stages[2]).strategy == "deepspeed_2"
    assert found(devices=2, precision="bf16").precision == "bf16-mixed"
    assert "--trainer.devices" in found().assumed
    for refused in ("xla", stages[3]):
        with pytest.raises(UnknownLayoutError, match="not modelled"):
            found(devices=2, strategy=refused)


def test_what_is_not_known_offline_is_said() -> None:
    published = {"family": "gpt2", "source": "openai-community/gpt2"}
    with pytest.raises(UnknownNetworkError, match="not on this machine"):
        network_of(Settings({"model": {"network": published}}), None)
    scratch = {"family": "gpt2", "config": {"n_layer": 1}}
    tree = {"model": {"network": scratch}, "data": {"tokenizer": "openai-community/gpt2"}}
    with pytest.raises(UnknownNetworkError, match="vocabulary"):
        network_of(Settings(tree), None)


def test_a_network_that_starts_from_another_cell_has_what_is_left_of_it() -> None:
    upstream = spec("gpt2", GPT2 | {"n_layer": 5}, LORA)
    tree = {"model": {"network": {"family": "gpt2", "depth_stride": 2}}}
    network = network_of(Settings(tree), upstream)
    assert network.figures() == spec("gpt2", GPT2 | {"n_layer": 3}).figures()
    assert network.figures().trainable == network.figures().parameters
